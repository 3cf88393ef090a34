"""The clients that people have, unmodified: clickhouse-connect, curl and npm's @clickhouse/client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver import AsyncClient, Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from embedded.machine import Machine

pytestmark = pytest.mark.integration

NODE_CLIENT = "1.23.1"
TABLE = """
CREATE TABLE {database}.t (
    id UInt64, name LowCardinality(String), price Float64, amount UInt256, exact Decimal(38, 18),
    tags Array(String), at DateTime64(6, 'UTC'), note Nullable(String),
    CONSTRAINT positive CHECK price > 0
) ENGINE = MergeTree ORDER BY id
"""
COLUMNS = ["id", "name", "price", "amount", "exact", "tags", "note"]
ROW = (1, "BTC/USDT", 0.1, 2**255, Decimal("0.000000000000000001"), ["a", "b\n\n"], None)


@pytest.fixture
def client(machine: Machine) -> Iterator[Client]:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=machine.ports.clickhouse, username=machine.user, password=machine.password
    )
    yield client
    client.close()


@pytest.fixture
def database(client: Client) -> Iterator[str]:
    database = f"clients_{uuid.uuid4().hex[:8]}"
    client.command(f"CREATE DATABASE {database}")
    client.command(TABLE.format(database=database))
    yield database
    client.command(f"DROP DATABASE {database} SYNC")


@pytest.fixture
async def asynchronous(machine: Machine) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1", port=machine.ports.clickhouse, username=machine.user, password=machine.password
    )
    yield client
    await client.close()


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_clickhouse_connect(machine: Machine, database: str, compress: bool | str) -> None:
    client = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=machine.ports.clickhouse,
        username=machine.user,
        password=machine.password,
        database=database,
        compress=compress,
        autogenerate_session_id=True,  # for the temporary table; the default is the process's, and ours is off
    )
    client.insert("t", [ROW, (2, *ROW[1:])], column_names=COLUMNS)
    rows = client.query(
        f"SELECT {', '.join(COLUMNS)} FROM t WHERE id = {{id:UInt8}}", parameters={"id": 1}
    ).result_rows
    assert rows == [ROW]
    assert client.query("SELECT id FROM t LIMIT 0").result_rows == []
    assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 1}).result_rows == [(1,)]
    numbers = client.query("SELECT number FROM numbers(1000000)").result_columns[0]
    assert (len(numbers), sum(numbers)) == (1000000, 499999500000)
    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as blocks:
        assert sum(len(block) for block in blocks) == 300000
    client.raw_insert("t", ["id", "price"], b'{"id":3,"price":1}\n\n{"id":4,"price":2}\n', fmt="JSONEachRow")
    assert client.command("SELECT count() FROM t") == 4
    client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    client.command("INSERT INTO mine VALUES (9)")
    assert client.command("SELECT a FROM mine") == 9
    client.close()


def test_clickhouse_connect_hears_of_every_failed_insert(client: Client, database: str) -> None:
    bad = [(5, *ROW[1:2], -1.0, *ROW[3:])]
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.insert(f"{database}.t", bad, column_names=COLUMNS)
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.raw_insert(f"{database}.t", ["id", "price"], b'{"id":3,"price":-1}\n', fmt="JSONEachRow")
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.raw_insert(
            f"{database}.t",
            ["id", "price"],
            b'{"id":3,"price":-1}\n',
            fmt="JSONEachRow",
            settings={"insert_deduplication_token": "a", "async_insert": 0},
        )
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.command(f"INSERT INTO {database}.t (id, price) VALUES (1, -1)")
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.command(f"INSERT INTO {database}.t (id, price) SELECT 1, -1")
    assert client.command(f"SELECT count() FROM {database}.t") == 0


def test_clickhouse_connect_hears_of_errors(client: Client, machine: Machine) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM missing")
    with pytest.raises(StreamFailureError, match="too far"):
        _ = client.query("SELECT throwIf(number = 3000000, 'too far') FROM numbers(10000000)").result_columns
    with pytest.raises(DatabaseError, match="AUTHENTICATION_FAILED"):
        clickhouse_connect.get_client(host="127.0.0.1", port=machine.ports.clickhouse, password="guess")


async def test_clickhouse_connect_async(asynchronous: AsyncClient, database: str) -> None:
    await asynchronous.insert(f"{database}.t", [ROW], column_names=COLUMNS)
    result = await asynchronous.query(f"SELECT {', '.join(COLUMNS)} FROM {database}.t")
    assert result.result_rows == [ROW]
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        await asynchronous.insert(f"{database}.t", [(5, *ROW[1:2], -1.0, *ROW[3:])], column_names=COLUMNS)
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        await asynchronous.raw_insert(
            f"{database}.t", ["id", "price"], b'{"id":3,"price":-1}\n', fmt="JSONEachRow"
        )
    await asynchronous.raw_insert(
        f"{database}.t", ["id", "price"], b'{"id":3,"price":1}\n', fmt="JSONEachRow"
    )
    assert await asynchronous.command(f"SELECT count() FROM {database}.t") == 2


def test_curl(machine: Machine, database: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")

    def curl(*arguments: str, data: bytes = b"") -> str:
        command = ["curl", "-sS", "-u", f"{machine.user}:{machine.password}", *arguments]
        return subprocess.run(
            command, input=data, capture_output=True, check=True, timeout=60
        ).stdout.decode()

    url = f"{machine.clickhouse_url}/?database={database}"
    insert = f"{url}&query=INSERT%20INTO%20t%20(id,price)%20FORMAT%20CSV"
    assert curl("--data-binary", "@-", insert, data=b"1,0.5\n2,1.5\n") == ""
    assert curl(url, "--data-binary", "SELECT sum(price) FROM t") == "2\n"
    assert curl(f"{url}&query=SELECT%20count()%20FROM%20t%20WHERE%20id%3D%7Bid:UInt8%7D&param_id=2") == "1\n"
    assert json.loads(curl(f"{url}&default_format=JSON", "--data-binary", "SELECT 1 AS a"))["data"] == [
        {"a": 1}
    ]
    compressed = curl(
        "--compressed", f"{url}&enable_http_compression=1", "-d", "SELECT number FROM numbers(1000)"
    )
    assert compressed.splitlines()[-1] == "999"
    refused = curl("-i", "--data-binary", "@-", insert, data=b"3,-1\n")
    assert refused.startswith("HTTP/1.1 500")
    assert "X-ClickHouse-Exception-Code: 469" in refused
    large = b"".join(b"%d,1\n" % number for number in range(10, 400010))
    assert curl("--data-binary", "@-", insert, data=large) == ""  # Expect: 100-continue
    assert curl(url, "-d", "SELECT count() FROM t") == "400002\n"


def test_npm_client(machine: Machine, database: str, tmp_path: Path, jar_cache: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs node and npm")
    # Kept beside the jars, so that it is fetched once.
    project = jar_cache.parent / f"clickhouse-client-{NODE_CLIENT}"
    project.mkdir(parents=True, exist_ok=True)
    if not (project / "node_modules" / "@clickhouse" / "client").exists():
        manifest = {"private": True, "dependencies": {"@clickhouse/client": NODE_CLIENT}}
        (project / "package.json").write_text(json.dumps(manifest))
        install = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        if install.returncode != 0:
            pytest.skip(f"npm cannot install @clickhouse/client: {install.stderr[-200:]}")
    script = project / f"{uuid.uuid4().hex}.mjs"
    script.write_text((Path(__file__).parent / "client.mjs").read_text())
    try:
        ran = subprocess.run(
            [node, str(script), machine.clickhouse_url, machine.user, database],
            env={**os.environ, "PASSWORD": machine.password},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    finally:
        script.unlink()
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "rows": [{"id": 1, "price": 0.5}, {"id": 2, "price": 1.5}],
        "streamed": 200000,
        "parameter": [{"x": "it's"}],
        "session": [{"a": 7}],
        "gzip": 3,
        "failed": ["469", "469", "60"],
        "aborted": True,
    }
