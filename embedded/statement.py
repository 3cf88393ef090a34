"""What the front must know of a statement before ClickHouse parses it: its verb, its format, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

STREAMABLE = frozenset(
    {
        "Native",
        "RowBinary",
        "TabSeparated",
        "TSV",
        "TabSeparatedRaw",
        "TSVRaw",
        "CSV",
        "JSONEachRow",
        "JSONLines",
        "NDJSON",
        "JSONCompactEachRow",
        "JSONStringsEachRow",
        "JSONCompactStringsEachRow",
        "LineAsString",
    }
)
"""Formats whose blocks, written one after the other, are the whole: no header, no footer, nothing between rows."""

_TOKEN = re.compile(
    rb"(?P<blank>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z))"
    rb"|(?P<quoted>'(?:[^'\\]|\\.|'')*(?:'|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`(?:[^`\\]|\\.)*(?:`|\Z))"
    rb"|(?P<word>\w+)"
    rb"|(?P<sign>.)",
    re.DOTALL,
)
_NOT_CODE = re.compile(
    rb"--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^'\\]|\\.|'')*(?:'|\Z)|\"(\w*)\"|`(\w*)`|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`(?:[^`\\]|\\.)*(?:`|\Z)",
    re.DOTALL,
)
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:\bSETTINGS\b[^;]*)?;?\s*\Z", re.IGNORECASE)
_KAFKA = re.compile(rb"\bENGINE\s*=?\s*Kafka\b", re.IGNORECASE)
_SEVERAL = re.compile(rb";\s*[^\s;]")
_TOTALS = re.compile(rb"\bTOTALS\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    verb: str
    """Its first word in capitals, as SELECT; empty when it begins otherwise."""
    output_format: str
    """Named by its FORMAT clause; empty when there is none."""
    carries_data: bool
    """An INSERT whose rows stand in the text."""
    code: bytes
    """The statement without comments, data and the contents of strings."""

    @property
    def streamable(self) -> bool:
        """Whether its answer may be sent block by block, given a format that may."""
        return self.verb in ("SELECT", "WITH") and not _TOTALS.search(self.code)

    def refusal(self) -> tuple[int, str] | None:
        """ClickHouse's error code and the reason, for what must not reach the engine."""
        if _KAFKA.search(self.code):
            return 48, (
                "ENGINE = Kafka is not for the embedded ClickHouse: its data would not open again after a restart; "
                "`cexdex sink` feeds the tables. (NOT_IMPLEMENTED)"
            )
        if _SEVERAL.search(self.code):
            return 62, "Multi-statements are not allowed; send them one by one. (SYNTAX_ERROR)"
        return None


def read_statement(text: bytes) -> Statement:
    """Looks at a statement, data and all, without understanding it."""
    verb, data_at = "", None
    depth = 0
    before = b""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "blank":
            continue
        if kind == "word":
            word = token.group().upper()
            if not verb:
                verb = word.decode("ascii", "replace")
                if verb != "INSERT":
                    break
            elif depth == 0 and before == b"FORMAT":
                data_at = token.end()
                break
            elif depth == 0 and word == b"VALUES":
                code = _code(text)
                return Statement(verb, "", True, code)
            elif word in (b"SELECT", b"WITH", b"INFILE", b"WATCH"):
                break
            before = word
        else:
            if not verb and token.group() != b"(":
                break
            if kind == "sign":
                depth += {b"(": 1, b")": -1}.get(token.group(), 0)
            before = b""
    if data_at is not None:
        return Statement(verb, "", True, _code(text[:data_at]))
    code = _code(text)
    named = _FORMAT.search(code)
    return Statement(verb, named[1].decode() if named and verb != "INSERT" else "", False, code)


def _code(text: bytes) -> bytes:
    return _NOT_CODE.sub(_code_of, text)


def _code_of(found: re.Match[bytes]) -> bytes:
    name: bytes | None = found[1] or found[2]
    if name:
        return name  # a quoted name is the name
    return b"''" if found[0][:1] in b"'\"`" else b" "
