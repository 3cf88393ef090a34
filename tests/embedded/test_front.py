"""ClickHouse over HTTP, asked as any client asks."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import lz4.frame
import pytest
import zstandard

from embedded.machine import Machine

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]
    body: bytes


class Door:
    """Sends requests with the password, into a database of its own."""

    def __init__(self, machine: Machine, session: aiohttp.ClientSession, database: str) -> None:
        self.machine = machine
        self.session = session
        self.database = database

    async def ask(
        self,
        sql: str | bytes = b"",
        *,
        method: str = "POST",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        known: bool = True,
        **parameters: str,
    ) -> Answer:
        credentials = (
            {"X-ClickHouse-User": self.machine.user, "X-ClickHouse-Key": self.machine.password}
            if known
            else {}
        )
        async with self.session.request(
            method,
            self.machine.clickhouse_url + path,
            params={"database": self.database, **parameters},
            data=sql or None,
            headers={**credentials, **(headers or {})},
            skip_auto_headers=["Accept-Encoding"],
        ) as answer:
            body = await answer.read()
            return Answer(answer.status, body.decode("utf-8", "replace"), answer.headers, body)

    async def value(self, sql: str, **parameters: str) -> str:
        answer = await self.ask(sql, **parameters)
        assert answer.status == 200, answer.text
        return answer.text.strip()


@pytest.fixture
async def door(machine: Machine) -> AsyncIterator[Door]:
    database = f"front_{uuid.uuid4().hex[:8]}"
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        door = Door(machine, session, database)
        await door.value(f"CREATE DATABASE {database}", database="default")
        await door.value(
            "CREATE TABLE t (a UInt32, CONSTRAINT small CHECK a < 100) ENGINE = MergeTree ORDER BY a"
        )
        yield door
        await door.value(f"DROP DATABASE {database} SYNC", database="default")


def codes(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers.get("X-ClickHouse-Exception-Code", "")


# Who may come in


async def test_says_that_it_lives_without_a_password(door: Door) -> None:
    for path in ("/ping", "/replicas_status"):
        answer = await door.ask(method="GET", path=path, known=False)
        assert (answer.status, answer.text) == (200, "Ok.\n")


async def test_always_asks_for_the_password(door: Door) -> None:
    machine = door.machine
    basic = base64.b64encode(f"{machine.user}:{machine.password}".encode()).decode()
    wrong = base64.b64encode(f"{machine.user}:guess".encode()).decode()
    for headers, parameters in (
        ({"Authorization": f"Basic {basic}"}, {}),
        ({"X-ClickHouse-User": machine.user, "X-ClickHouse-Key": machine.password}, {}),
        ({}, {"user": machine.user, "password": machine.password}),
    ):
        answer = await door.ask("SELECT 1", known=False, headers=headers, **parameters)
        assert (answer.status, answer.text) == (200, "1\n")
    for headers, parameters in (
        ({}, {}),
        ({"Authorization": f"Basic {wrong}"}, {}),
        ({"Authorization": "Basic !"}, {}),
        ({"Authorization": f"Basic {wrong}"}, {"user": machine.user, "password": machine.password}),
        ({"X-ClickHouse-User": "admin", "X-ClickHouse-Key": machine.password}, {}),
        ({}, {"password": machine.password + "x"}),
    ):
        answer = await door.ask("SELECT 1", known=False, headers=headers, **parameters)
        assert codes(answer) == (403, "516")
        assert (
            "the password stands in clickhouse.password of the data folder. (AUTHENTICATION_FAILED)"
            in answer.text
        )
        assert machine.password not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8123"},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_refuses_pages_of_other_origins(door: Door, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/"),
        ("GET", "/"),
        ("GET", "/ping"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/"),
    ):
        answer = await door.ask(
            "SELECT 1" if method == "POST" else b"", method=method, path=path, headers=headers
        )
        assert answer.status == 403
        assert "X-ClickHouse-Exception-Code" not in answer.headers
        assert not any(name.lower().startswith("access-control") for name in answer.headers)


async def test_listens_on_loopback_only(machine: Machine) -> None:
    import psutil

    listening = {
        connection.laddr.ip
        for child in machine.children
        for connection in psutil.Process(child.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


# Questions


async def test_get_reads_and_never_writes(door: Door) -> None:
    assert (await door.ask(method="GET", query="SELECT 1 + 1")).text == "2\n"
    assert (
        await door.ask(method="GET", query="SELECT getSetting('max_threads')", max_threads="1")
    ).text == "1\n"
    for sql in (
        "DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE u (a Int8) ENGINE = Memory",
        "SET readonly = 0",
    ):
        for parameters in ({}, {"readonly": "0"}, {"session_id": "of a get"}):
            assert codes(await door.ask(method="GET", query=sql, **parameters)) == (403, "164")
    assert await door.value("SELECT count() FROM t") == "0"
    assert codes(await door.ask("DROP TABLE t", readonly="1", max_threads="1")) == (403, "164")


async def test_speaks_of_the_answer_in_headers(door: Door) -> None:
    answer = await door.ask("SELECT number FROM numbers(7)", default_format="JSONEachRow", query_id="mine")
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert answer.headers["X-ClickHouse-Timezone"] == await door.value("SELECT timezone()")
    assert answer.headers["Content-Type"] == "application/x-ndjson; charset=UTF-8"
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    assert (summary["result_rows"], summary["read_rows"], summary["written_rows"]) == ("7", "7", "0")
    assert answer.text.splitlines()[6] == '{"number":6}'
    assert (await door.ask("SELECT 1 AS a FORMAT CSV", default_format="JSON")).text == "1\n"
    assert (await door.ask("SELECT 1", headers={"X-ClickHouse-Format": "CSVWithNames"})).text == '"1"\n1\n'
    wrote = await door.ask("INSERT INTO t VALUES (1), (2)")
    assert json.loads(wrote.headers["X-ClickHouse-Summary"])["written_rows"] == "2"


async def test_parameters_settings_and_database(door: Door) -> None:
    assert (
        await door.value("SELECT {x:UInt8} + 1, {s:String}", param_x="4", param_s="it's \\\\ one")
        == "5\tit\\'s \\\\ one"
    )
    assert await door.value("SELECT getSetting('max_block_size')", max_block_size="123") == "123"
    assert await door.value("SELECT getSetting('max_block_size')") != "123"
    assert await door.value("SELECT currentDatabase()") == door.database
    assert codes(await door.ask("SELECT 1", no_such_setting="1")) == (400, "115")
    assert codes(await door.ask("SELECT 1", **{"max_threads = 1, readonly": "0"})) == (400, "115")
    assert codes(await door.ask("SELECT 1", database="nowhere")) == (404, "81")
    assert await door.value("SELECT 1", max_threads="1") == "1"


async def test_final_unless_said_otherwise(door: Door) -> None:
    await door.value("CREATE TABLE r (id UInt8, v UInt8) ENGINE = ReplacingMergeTree ORDER BY id")
    await door.value("SYSTEM STOP MERGES r")
    for value in (1, 2):
        await door.value(f"INSERT INTO r VALUES (1, {value})")
    assert await door.value("SELECT v FROM r") == "2"
    assert await door.value("SELECT count() FROM r", final="0") == "2"


async def test_databases_are_atomic(door: Door) -> None:
    assert await door.value(f"SELECT engine FROM system.databases WHERE name = '{door.database}'") == "Atomic"


async def test_a_session_keeps_what_it_was_told(door: Door) -> None:
    session = {"session_id": uuid.uuid4().hex}
    assert codes(await door.ask("SELECT 1", **session, session_check="1")) == (404, "372")
    await door.value("CREATE TEMPORARY TABLE mine (a UInt8)", **session)
    await door.value("INSERT INTO mine VALUES (5)", **session)
    await door.value("SET max_block_size = 77", **session)
    assert await door.value("SELECT a FROM mine", **session, session_check="1") == "5"
    # What comes in the URL is for one query.
    other = {"max_block_size": "55", "max_threads": "1", "database": "system"}
    sees = "SELECT getSetting('max_block_size'), getSetting('max_threads'), currentDatabase()"
    assert await door.value(sees, **session, **other) == "55\t1\tsystem"
    before = await door.value("SELECT getSetting('max_threads')")
    del session["session_id"]
    assert codes(await door.ask("SELECT a FROM mine")) == (404, "60")
    assert before != "1"


async def test_a_sessions_settings_outlive_those_of_a_query(door: Door) -> None:
    session = {"session_id": uuid.uuid4().hex}
    await door.value("SET max_block_size = 77", **session)
    assert await door.value("SELECT getSetting('max_block_size')", **session, max_block_size="55") == "55"
    assert await door.value("SELECT getSetting('max_block_size')", **session) == "77"
    assert codes(await door.ask("SELECT 1", **session, max_block_size="56", nonsense="1")) == (400, "115")
    assert await door.value("SELECT getSetting('max_block_size')", **session) == "77"


async def test_a_session_serves_one_query_at_a_time(door: Door) -> None:
    session = {"session_id": uuid.uuid4().hex}
    slow = asyncio.create_task(door.ask("SELECT sleep(2) AS slow", **session))
    await _until(door, "SELECT count() FROM system.processes WHERE query LIKE '%AS slow'", "1")
    assert codes(await door.ask("SELECT 1", **session)) == (423, "373")
    assert not slow.done()
    assert (await slow).status == 200
    assert await door.value("SELECT 1", **session) == "1"


async def test_queries_run_side_by_side(door: Door) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(door.ask("SELECT sleep(1)") for _ in range(8)))
    assert [answer.text for answer in answers] == ["0\n"] * 8
    assert time.monotonic() - began < 4


# Answers


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
            async for chunk in answer.content.iter_any():
                received += chunk
    _, _, told = bytes(received).partition(f"__exception__\r\n{tag}\r\n".encode())
    assert told.startswith(b"Code: 395. DB::Exception: too far")
    assert told.endswith(f" {tag}\r\n__exception__\r\n".encode())


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


# Inserts


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


# Going away


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
    await _until(door, running, "1")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await _until(door, running, "0")


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


async def _until(door: Door, sql: str, expected: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while (value := await door.value(sql)) != expected:
        assert time.monotonic() < deadline, f"{sql} gives {value}"
        await asyncio.sleep(0.05)


async def test_password_file_is_ours_alone(machine: Machine) -> None:
    import psutil

    clickhouse = next(child for child in machine.children if child.name == "clickhouse")
    arguments = psutil.Process(clickhouse.pid).cmdline()
    assert machine.password not in " ".join(arguments)
    password = Path(arguments[-1])
    assert password.read_text().strip() == machine.password
    assert password.stat().st_mode & 0o777 == 0o600
