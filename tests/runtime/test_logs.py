"""Secrets masked, strangers' text harmless."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from cexdex.runtime import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("key whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw used", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("https://user:hunter2@clickhouse.example:8443/", "hunter2"),
        ("wss://apikey@rpc.example/v1", "apikey"),
        ("Authorization: Bearer eyJhbGciOi.abc", "eyJhbGciOi"),
        ('{"Authorization": "Basic dXNlcjpwYXNz"}', "dXNlcjpwYXNz"),
        ("X-ClickHouse-Key: hunter2", "hunter2"),
        ("http://127.0.0.1/?user=u&password=hunter2&x=1", "hunter2"),
        ("api_key=hunter2", "hunter2"),
        ("'secret': 'hunter2'", "hunter2"),
        ("cdx_live_a1b2c3d4_ZZZZZZZZZZZZ", "ZZZZZZZZZZZZ"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, secret: str) -> None:
    assert secret not in logs.masked(text)


def test_a_secret_that_was_named_is_masked_wherever_it_stands() -> None:
    logs.hide("a1b2c3-rpc-path")
    assert logs.masked("https://rpc.example/v2/a1b2c3-rpc-path/x") == "https://rpc.example/v2/***/x"


def test_plain_text_stays_as_it_is() -> None:
    text = "gap of binance:BTC-USDT: expected 5, got 7 (https://docs.example/a?b=c)"
    assert logs.masked(text) == text


@pytest.mark.parametrize("json_lines", [True, False])
def test_neither_colours_nor_turned_lines_nor_new_lines_reach_a_log(json_lines: bool) -> None:
    stream = io.StringIO()
    logs.configure(json=json_lines, stream=stream)
    structlog.get_logger("x").info("symbol", name="\x1b[31mUSDC\u202e\nforged line", nested={"a": ["\x07"]})
    [line] = stream.getvalue().splitlines()
    assert not any(character in line for character in "\x1b\u202e\x07")
    assert "\\x1b[31mUSDC" in (json.loads(line)["name"] if json_lines else line)


def test_fields_named_like_secrets_are_masked_in_our_lines_and_in_those_of_libraries() -> None:
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    structlog.get_logger("x").warning("connected", password="hunter2", headers={"authorization": "hunter2"})
    logging.getLogger("library").warning("posting to %s", "https://u:hunter2@h/")
    try:
        raise ValueError("bad password=hunter2")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    assert "hunter2" not in stream.getvalue()
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert first["level"] == "warning"
    assert second["event"] == "posting to https://***@h/"
    assert "ValueError" in third["exception"]
