"""What one data folder promises: kept over restarts, one owner, nothing left running, ports said."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cexdex.runtime.children import ChildEnded
from cexdex.runtime.datafolder import DataFolder, read_running
from embedded.clickhouse import ClickHouse
from embedded.jars import fetch_jars
from embedded.kafka import Broker
from embedded.machine import Machine, machine
from embedded.ports import LOOPBACK, Ports, PortTaken, require_free_port

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
OWNER = """
import asyncio, sys
from pathlib import Path
from cexdex.runtime.datafolder import DataFolder
from embedded.machine import machine
from embedded.ports import Ports
async def main():
    with DataFolder.take(Path(sys.argv[1])) as folder:
        async with machine(folder, ports=Ports.free(), cache=Path(sys.argv[2]), progress=False):
            print("up", flush=True)
            await asyncio.sleep(600)
asyncio.run(main())
"""


@asynccontextmanager
async def started(folder: Path, jar_cache: Path) -> AsyncIterator[Machine]:
    with DataFolder.take(folder) as taken:
        async with machine(taken, ports=Ports.free(), cache=jar_cache, progress=False) as running:
            yield running


async def sql(running: Machine, text: str) -> str:
    async with (
        aiohttp.ClientSession(headers={"X-ClickHouse-Key": running.password}) as session,
        session.post(running.clickhouse_url, data=text) as answer,
    ):
        body = await answer.text()
        assert answer.status == 200, body
        return body.strip()


async def test_topics_records_commits_and_rows_outlive_a_restart(tmp_path: Path, jar_cache: Path) -> None:
    folder, partition = tmp_path / "data", TopicPartition("kept", 0)
    async with started(folder, jar_cache) as running:
        admin = AIOKafkaAdminClient(bootstrap_servers=running.kafka)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 2, 1, topic_configs={"retention.ms": "-1"})])
        await admin.close()
        async with AIOKafkaProducer(
            bootstrap_servers=running.kafka, enable_idempotence=True, compression_type="lz4"
        ) as producer:
            for number in range(10):
                await producer.send_and_wait("kept", b"%d" % number, key=b"k", partition=0)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=running.kafka, group_id="readers", enable_auto_commit=False
        )
        await consumer.start()
        consumer.assign([partition])
        await consumer.commit({partition: 7})
        await stopped(consumer)
        await sql(running, "CREATE DATABASE kept")
        await sql(running, "CREATE TABLE kept.t (a UInt32) ENGINE = MergeTree ORDER BY a")
        await sql(running, "INSERT INTO kept.t SELECT number FROM numbers(1000)")
        password, children = running.password, [child.pid for child in running.children]
    assert [pid for pid in children if psutil.pid_exists(pid)] == []
    assert read_running(folder) is None

    async with started(folder, jar_cache) as running:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=running.kafka,
            group_id="readers",
            enable_auto_commit=False,
            auto_offset_reset="none",
        )
        await consumer.start()
        consumer.assign([partition])
        assert await consumer.committed(partition) == 7
        consumer.seek(partition, 0)
        records = [await consumer.getone() for _ in range(10)]
        assert [(record.offset, record.key, record.value) for record in records] == [
            (number, b"k", b"%d" % number) for number in range(10)
        ]
        assert {record.timestamp_type for record in records} == {1}  # LogAppendTime
        assert consumer.partitions_for_topic("kept") == {0, 1}
        await stopped(consumer)
        assert await sql(running, "SELECT count(), sum(a) FROM kept.t") == "1000\t499500"
        assert running.password == password


async def stopped(consumer: AIOKafkaConsumer) -> None:
    # Without a group's membership stop() may raise the CancelledError of its own inner task.
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def test_topics_are_not_made_by_asking_for_them(machine: Machine) -> None:
    async with AIOKafkaProducer(bootstrap_servers=machine.kafka, request_timeout_ms=2000) as producer:
        with pytest.raises(Exception, match=r"(?i)mistyped|topic|timeout"):
            await asyncio.wait_for(producer.send_and_wait("mistyped", b"x"), 5)
    admin = AIOKafkaAdminClient(bootstrap_servers=machine.kafka)
    await admin.start()
    assert "mistyped" not in await admin.list_topics()
    await admin.close()


@pytest.mark.faults
async def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path, jar_cache: Path) -> None:
    folder = tmp_path / "data"
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OWNER,
        str(folder),
        str(jar_cache),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert owner.stdout is not None
    assert await asyncio.wait_for(owner.stdout.readline(), 90) == b"up\n"
    running = read_running(folder)
    assert running is not None
    assert running.pid == owner.pid
    assert [process.name for process in running.processes if process.find() is None] == []
    assert {process.name for process in running.processes} == {"kafka minder", "kafka", "clickhouse"}

    refused = subprocess.run(  # noqa: ASYNC221 - short, and nothing else runs here
        [sys.executable, "-c", OWNER, str(folder), str(jar_cache)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert refused.stderr.splitlines()[-1] == (
        f"cexdex.runtime.datafolder.DataFolderInUse: The data folder {folder} is in use by process {owner.pid}; "
        "stop that one, or name another folder with CEXDEX_DATA or --data."
    )

    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    await gone([process.pid for process in running.processes])
    assert read_running(folder) is None


@pytest.mark.faults
async def test_what_lost_its_minder_is_ended_by_the_next_owner(tmp_path: Path, jar_cache: Path) -> None:
    folder = tmp_path / "data"
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OWNER,
        str(folder),
        str(jar_cache),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert owner.stdout is not None
    assert await asyncio.wait_for(owner.stdout.readline(), 90) == b"up\n"
    running = read_running(folder)
    assert running is not None
    pids = {process.name: process.pid for process in running.processes}
    owner.send_signal(signal.SIGSTOP)  # so that it does not tidy up after its minder
    os.kill(pids["kafka minder"], signal.SIGKILL)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    assert psutil.pid_exists(pids["kafka"])
    async with started(folder, jar_cache) as again:
        assert not psutil.pid_exists(pids["kafka"])
        assert await sql(again, "SELECT 1") == "1"


async def gone(pids: list[int], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, f"still alive: {left}"
        await asyncio.sleep(0.05)


async def test_a_taken_port_is_named_with_its_use_and_the_remedy(
    tmp_path: Path, jar_cache: Path, machine: Machine
) -> None:
    broker = Broker(
        tmp_path / "kafka",
        fetch_jars(jar_cache),
        port=machine.ports.kafka,
        controller_port=Ports.free().controller,
        log=tmp_path / "kafka.log",
    )
    with pytest.raises(PortTaken) as taken:
        await broker.start()
    assert str(taken.value) == (
        f"Port {machine.ports.kafka}, which Kafka listens on, is taken; "
        "stop the program that uses it, or move all ports with --port-offset."
    )
    clickhouse = ClickHouse(
        tmp_path / "clickhouse",
        password_file=tmp_path / "password",
        port=machine.ports.clickhouse,
        log=tmp_path / "clickhouse.log",
    )
    with pytest.raises(
        PortTaken, match=f"^Port {machine.ports.clickhouse}, which ClickHouse listens on, is taken;"
    ):
        await clickhouse.start()
    with pytest.raises(
        PortTaken, match=r"^Port 69092, for Kafka, is no port; choose a smaller --port-offset.$"
    ):
        require_free_port(Ports.offset(60000).kafka, "Kafka")


async def test_a_fault_of_one_part_does_not_leave_the_other_running(tmp_path: Path, jar_cache: Path) -> None:
    holder = await asyncio.start_server(lambda reader, writer: None, LOOPBACK, 0)
    port = holder.sockets[0].getsockname()[1]
    ports = Ports.free()
    with DataFolder.take(tmp_path / "data") as folder:
        with pytest.raises(PortTaken):
            async with machine(
                folder, ports=Ports(ports.kafka, ports.controller, port), cache=jar_cache, progress=False
            ):
                pass
        assert folder.running.processes == ()
    holder.close()
    me = psutil.Process()
    assert [
        child for child in me.children(recursive=True) if str(tmp_path) in " ".join(child.cmdline())
    ] == []


async def test_a_broker_that_dies_is_quoted(tmp_path: Path, jar_cache: Path) -> None:
    ports = Ports.free()
    broker = Broker(
        tmp_path / "kafka",
        fetch_jars(jar_cache),
        port=ports.kafka,
        controller_port=ports.controller,
        log=tmp_path / "log",
    )
    await broker.start()
    await broker.stop()
    meta = tmp_path / "kafka" / "log" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=2"))
    with pytest.raises(ChildEnded, match=r"^kafka ended with code 1: .*node id.*\(its log is .*/log\)\.$"):
        await broker.start()


async def test_a_clickhouse_that_dies_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").write_text("no folder")
    clickhouse = ClickHouse(
        tmp_path / "clickhouse",
        password_file=tmp_path / "password",
        port=Ports.free().clickhouse,
        log=tmp_path / "log",
    )
    with pytest.raises(
        ChildEnded, match=r"^clickhouse ended with code 1: .*FileExistsError.*\(its log is .*/log\)\.$"
    ):
        await clickhouse.start()
