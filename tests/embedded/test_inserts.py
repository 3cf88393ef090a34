"""What goes into ClickHouse over HTTP, and what a client that goes away leaves behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
import zlib

import aiohttp
import lz4.frame
import pytest
import zstandard

from tests.embedded.door import Door, codes, until

pytestmark = pytest.mark.integration


async def test_an_inserts_error_is_never_swallowed(door: Door) -> None:
    native = (await door.ask("SELECT toUInt32(1000) AS a FORMAT Native")).body
    await door.value("CREATE TABLE feed (a UInt32) ENGINE = Null")
    await door.value("CREATE MATERIALIZED VIEW through TO t AS SELECT a FROM feed")
    row = b'{"a":1}\n{"a":1000}\n'
    packed = {"Content-Encoding": "gzip"}
    for body, headers, parameters in (
        (b"INSERT INTO t VALUES (1), (1000)", {}, {}),
        (b"INSERT INTO t SELECT 1000", {}, {}),
        (b"INSERT INTO t FORMAT JSONEachRow\n" + row, {}, {}),
        (row, {}, {"query": "INSERT INTO t FORMAT JSONEachRow"}),
        (row, {}, {"query": "INSERT INTO t FORMAT JSONEachRow", "async_insert": "0"}),
        (row, {}, {"query": "INSERT INTO t FORMAT JSONEachRow", "insert_deduplication_token": "a"}),
        (gzip.compress(row), packed, {"query": "INSERT INTO t FORMAT JSONEachRow"}),
        (native, {}, {"query": "INSERT INTO t FORMAT Native\n"}),
        (b"INSERT INTO t FORMAT Native\n" + native, {}, {}),
        (b"1\n1000\n", {}, {"query": "INSERT INTO t FORMAT TSV"}),
        (row, {}, {"query": "INSERT INTO feed FORMAT JSONEachRow"}),
        (row, {}, {"query": "INSERT INTO t FORMAT JSONEachRow", "session_id": uuid.uuid4().hex}),
    ):
        answer = await door.ask(body, headers=headers, **parameters)
        assert codes(answer) == (500, "469"), (body, answer.text)
        assert "Constraint `small`" in answer.text
    for body in (b'{"a":1}\n{"a":x}\n', b'{"a":1}\n{"b":1}\n'):
        answer = await door.ask(
            body, query="INSERT INTO t FORMAT JSONEachRow", input_format_skip_unknown_fields="0"
        )
        assert codes(answer) in ((400, "27"), (400, "117"), (400, "130"), (400, "26"), (400, "72")), (
            answer.text
        )
    assert await door.value("SELECT count() FROM t") == "0"


async def test_bodies_go_in_byte_for_byte(door: Door) -> None:
    await door.value("CREATE TABLE s (s String) ENGINE = Memory")
    # Ten bytes of 10 in a row of length 10: a newline added, lost or taken for the data's end would show.
    blob = b"\n" * 11
    assert (await door.ask(blob, query="INSERT INTO s FORMAT RowBinary  ")).status == 200
    assert await door.value("SELECT count(), sum(length(s)) FROM s") == "1\t10"
    newlines = (await door.ask("SELECT arrayJoin([unhex('0a0a'), '', unhex('20')]) AS s FORMAT Native")).body
    assert (await door.ask(newlines, query="INSERT INTO s FORMAT Native\n")).status == 200
    assert await door.value("SELECT count(), sum(length(s)) FROM s") == "4\t13"


async def test_empty_lines_do_not_end_the_data(door: Door) -> None:
    for statement, data in (
        ("INSERT INTO t FORMAT JSONEachRow", b'{"a":1}\n\n{"a":2}\n\n\n{"a":3}'),
        ("INSERT INTO t SETTINGS max_threads = 1 FORMAT JSONEachRow", b'\n\n{"a":1}\n\n{"a":2}{"a":3}'),
        ("INSERT INTO t (a) VALUES", b"(1),\n\n(2)\n\n,(3)"),
        ("INSERT INTO t (a) FORMAT Values", b"(1),\n\n(2)\n\n,(1 + 2)"),
    ):
        for body, parameters in ((data, {"query": statement}), (statement.encode() + b"\n" + data, {})):
            answer = await door.ask(body, **parameters)
            assert answer.status == 200, answer.text
            assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "3"
            assert await door.value("SELECT count(), sum(a) FROM t") == "3\t6"
            await door.value("TRUNCATE TABLE t")


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("lz4", lz4.frame.compress),
    ],
)
async def test_packed_bodies_and_bombs(door: Door, encoding: str, pack: object) -> None:
    headers = {"Content-Encoding": encoding}
    rows = pack(b'{"a":7}\n' * 1000)  # type: ignore[operator]
    assert (await door.ask(rows, headers=headers, query="INSERT INTO t FORMAT JSONEachRow")).status == 200
    assert await door.value("SELECT count(), sum(a) FROM t") == "1000\t7000"
    bomb = pack(bytes(300 << 20))  # type: ignore[operator]
    answer = await door.ask(bomb, headers=headers, query="INSERT INTO t FORMAT JSONEachRow")
    assert (answer.status, answer.text) == (
        413,
        "The body has more than 256 MiB in clear; send it in parts.\n",
    )
    answer = await door.ask(rows[:-6], headers=headers, query="INSERT INTO t FORMAT JSONEachRow")
    assert answer.status == 400
    assert await door.value("SELECT count() FROM t") == "1000"


async def test_a_token_stores_a_repeated_batch_once(door: Door) -> None:
    await door.value(
        "CREATE TABLE once (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000"
    )
    for token in ("one", "one", "two"):
        answer = await door.ask(
            b"1\n2\n", query="INSERT INTO once FORMAT TSV", insert_deduplication_token=token
        )
        assert answer.status == 200
    assert await door.value("SELECT count() FROM once") == "4"


@pytest.mark.parametrize("kind", ["one answer", "streamed", "insert"])
async def test_a_client_that_goes_away_ends_its_query(door: Door, kind: str) -> None:
    mark = uuid.uuid4().hex
    endless = f"number FROM system.numbers WHERE NOT ignore('{mark}')"
    sql = {
        "one answer": f"SELECT count() FROM (SELECT {endless})",
        "streamed": f"SELECT {endless}",
        "insert": f"INSERT INTO t SELECT count() FROM (SELECT {endless})",
    }[kind]
    running = (
        f"SELECT count() FROM system.processes WHERE query LIKE '%{mark}%' AND query NOT LIKE '%processes%'"
    )
    asked = asyncio.create_task(_read_a_little(door, sql))
    await until(door, running, "1")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await until(door, running, "0")


async def _read_a_little(door: Door, sql: str) -> None:
    # A connection of its own, so that cancelling closes it.
    async with aiohttp.ClientSession() as session:
        headers = {"X-ClickHouse-Key": door.machine.password}
        parameters = {"database": door.database}
        async with session.post(
            door.machine.clickhouse_url, data=sql, headers=headers, params=parameters
        ) as answer:
            await answer.content.readexactly(1000)
            await asyncio.sleep(600)
