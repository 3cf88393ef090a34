"""ClickHouse over HTTP: who may come in, and what can be asked."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from pathlib import Path

import pytest

from embedded.machine import Machine
from tests.embedded.door import Door, codes, until

pytestmark = pytest.mark.integration


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
    await until(door, "SELECT count() FROM system.processes WHERE query LIKE '%AS slow'", "1")
    assert codes(await door.ask("SELECT 1", **session)) == (423, "373")
    assert not slow.done()
    assert (await slow).status == 200
    assert await door.value("SELECT 1", **session) == "1"


async def test_queries_run_side_by_side(door: Door) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(door.ask("SELECT sleep(1)") for _ in range(8)))
    assert [answer.text for answer in answers] == ["0\n"] * 8
    assert time.monotonic() - began < 4


async def test_password_file_is_ours_alone(machine: Machine) -> None:
    import psutil

    clickhouse = next(child for child in machine.children if child.name == "clickhouse")
    arguments = psutil.Process(clickhouse.pid).cmdline()
    assert machine.password not in " ".join(arguments)
    password = Path(arguments[-1])
    assert password.read_text().strip() == machine.password
    assert password.stat().st_mode & 0o777 == 0o600
