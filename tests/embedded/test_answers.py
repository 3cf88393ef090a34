"""What comes back from ClickHouse over HTTP."""

from __future__ import annotations

import gzip
import json
import zlib

import aiohttp
import lz4.frame
import pytest
import zstandard

from tests.embedded.door import Door, codes

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "output_format", ["TSV", "CSV", "JSONEachRow", "Native", "RowBinary", "JSONCompact", "Parquet"]
)
async def test_long_answers_are_whole_in_every_format(door: Door, output_format: str) -> None:
    answer = await door.ask(
        "SELECT number, toString(number) AS s FROM numbers(400000)", default_format=output_format
    )
    assert answer.status == 200
    await door.value("CREATE TABLE back (number UInt64, s String) ENGINE = Memory")
    body = f"INSERT INTO back FORMAT {output_format}\n".encode() + answer.body
    if output_format == "JSONCompact":
        assert json.loads(answer.body)["rows"] == 400000
        return
    assert (await door.ask(body)).status == 200
    assert (
        await door.value("SELECT count(), sum(number), sum(toUInt64(s)) FROM back")
        == "400000\t79999800000\t79999800000"
    )


@pytest.mark.parametrize(
    ("encoding", "unpack"),
    [
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("zstd", lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)),
        ("lz4", lz4.frame.decompress),
    ],
)
async def test_answers_are_compressed_as_asked(door: Door, encoding: str, unpack: object) -> None:
    for rows in (2000, 300000):
        sql = f"SELECT number FROM numbers({rows})"
        headers = {"Accept-Encoding": f"br, {encoding}"}
        plain = await door.ask(sql, headers=headers)
        assert "Content-Encoding" not in plain.headers
        packed = await door.ask(sql, headers=headers, enable_http_compression="1")
        assert packed.headers["Content-Encoding"] == encoding
        assert len(packed.body) < len(plain.body)
        assert unpack(packed.body) == plain.body  # type: ignore[operator]


async def test_an_error_in_mid_answer_is_not_taken_for_its_end(door: Door) -> None:
    async with door.session.post(
        door.machine.clickhouse_url,
        data="SELECT throwIf(number = 3000000, 'too far') FROM numbers(10000000)",
        headers={"X-ClickHouse-Key": door.machine.password},
    ) as answer:
        assert answer.status == 200
        tag = answer.headers["X-ClickHouse-Exception-Tag"]
        received = bytearray()
        with pytest.raises(aiohttp.ClientPayloadError):
            await _receive(answer, received)
    _, _, told = bytes(received).partition(f"__exception__\r\n{tag}\r\n".encode())
    assert told.startswith(b"Code: 395. DB::Exception: too far")
    assert told.endswith(f" {tag}\r\n__exception__\r\n".encode())


async def _receive(answer: aiohttp.ClientResponse, received: bytearray) -> None:
    async for chunk in answer.content.iter_any():
        received += chunk


async def test_errors_are_told_as_clickhouse_tells_them(door: Door) -> None:
    for sql, status, code, start in (
        ("SELEC 1", 400, "62", "Code: 62. DB::Exception: Syntax error"),
        ("SELECT * FROM missing", 404, "60", "Code: 60. DB::Exception: Unknown table"),
        ("SELECT nothing", 400, "47", "Code: 47. DB::Exception: Unknown expression"),
        ("SELECT throwIf(1)", 500, "395", "Code: 395. DB::Exception: Value passed to 'throwIf'"),
        (
            "SELECT sleep(3) SETTINGS max_execution_time = 0.5",
            408,
            "159",
            "Code: 159. DB::Exception: Timeout",
        ),
        ("SELECT 1 FORMAT Nonsense", 400, "73", "Code: 73. DB::Exception: Unknown format"),
        ("", 400, "62", "Code: 62. DB::Exception: Syntax error: Empty query."),
    ):
        answer = await door.ask(sql)
        assert codes(answer) == (status, code), answer.text
        assert answer.text.startswith(start)
        assert answer.text.count("DB::Exception") == 1
        assert "(version 26." in answer.text


async def test_what_is_not_served_says_so(door: Door) -> None:
    assert (await door.ask("SELECT 1", compress="1")).text.startswith(
        "Code: 48. DB::Exception: compress=1 is not served by the embedded ClickHouse; use enable_http_compression=1"
    )
    assert (await door.ask(method="GET", path="/play")).status == 404
    assert codes(await door.ask("SELECT 1; SELECT 2")) == (400, "62")


async def test_the_kafka_engine_is_refused(door: Door) -> None:
    answer = await door.ask("CREATE TABLE k (a Int8) ENGINE = /**/ Kafka('x', 'y', 'z', 'CSV')")
    assert codes(answer) == (501, "48")
    assert (
        await door.value(
            f"SELECT count() FROM system.tables WHERE database = '{door.database}' AND name = 'k'"
        )
        == "0"
    )
