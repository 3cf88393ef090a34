"""Logs that may be shown to anybody: secrets masked, text from outside harmless, JSON lines or plain text."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog

MASK = "***"
_SECRET_KEYS = re.compile(r"password|passwd|secret|token|api[-_]?key|authorization|cookie|signature", re.I)
_PATTERNS = (
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), f"whsec_{MASK}"),
    (re.compile(r"\bcdx_[a-z]+_[A-Za-z0-9_]+"), f"cdx_{MASK}"),
    # user:password@ of any URL; the user too, since some services put a key there.
    (re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]+@"), rf"\g<scheme>{MASK}@"),
    (
        re.compile(
            r"(?i)(\b(?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic)\s+)?[^\s'\",}]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)((?:password|passwd|pwd|secret|token|api[-_]?key|x-clickhouse-key)['\"]?\s*[:=]\s*['\"]?)[^\s'\"&,;}]+"
        ),
        rf"\1{MASK}",
    ),
)
_hidden: set[str] = set()


def configure(*, json: bool, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging, which our libraries use. json: one object a line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        safe,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _json_line if json else _text_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These tell of every reconnect at the level of an error; what it means for us is logged by us.
    logging.getLogger("aiokafka").setLevel("CRITICAL")
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    logging.getLogger("asyncio").setLevel("WARNING")


def hide(secret: str) -> str:
    """Masks this very text wherever it would be logged from now on, and returns it."""
    if len(secret) >= 6:
        _hidden.add(secret)
    return secret


def masked(text: str) -> str:
    """`text` without what looks like a secret or was given to `hide`."""
    for secret in _hidden:
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def harmless(text: str, *, lines: bool = False) -> str:
    """`text` with every control, bidi and other unprintable character written out (`\\x1b`), so that a stranger's
    text can neither colour a terminal nor turn a line around. lines: newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shown(c) or (lines and c in "\n\t") else _written_out(c) for c in text)


def safe(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that does both to every value."""
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = (
                MASK if _SECRET_KEYS.search(key) and value else _safe_value(value, key == "exception")
            )
    return event


def _safe_value(value: Any, lines: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {
            _safe_value(str(key), False): MASK if _SECRET_KEYS.search(str(key)) else _safe_value(inner, lines)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_safe_value(inner, lines) for inner in value]
    return harmless(masked(value if isinstance(value, str) else str(value)), lines=lines)


def _shown(character: str) -> bool:
    return character.isprintable() and unicodedata.category(character) not in ("Cf", "Cc", "Co", "Cs")


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str).decode()


def _text_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    time = str(event.pop("time", ""))[11:23]
    level = event.pop("level", "info")
    message = event.pop("event", "")
    trace = event.pop("exception", None)
    event.pop("logger", None)
    words = [time, f"{level:<7}", str(message), *(f"{key}={value}" for key, value in event.items())]
    return " ".join(words) + (f"\n{trace}" if trace else "")
