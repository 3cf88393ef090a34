"""A whole pipeline of real processes that can be killed: simulated venues, a broker of its own, every stage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from cexdex.config import Config, load
from cexdex.records.record import Declaration, declarations
from cexdex.runtime.clickhouse import Warehouse
from cexdex.runtime.kafka import (
    TopicPartition,
    beginning_offsets,
    consumer,
    create_topics,
    end_offsets,
    partition_counts,
    stop_consumer,
    topic_of,
)
from embedded.jars import fetch_jars
from embedded.kafka import Broker
from embedded.machine import Machine
from embedded.ports import Ports

ROOT = Path(__file__).parents[2]
STAGES = ("ingest", "process", "sink", "notify")


class Town:
    """Everything that runs, by name."""

    def __init__(self, folder: Path, config: Config, broker: Broker, offset: int, venue_port: int) -> None:
        self.folder = folder
        self.config = config
        self.broker = broker
        self.rate = 150
        """Frames a second over all venues."""
        self.truth = folder / "truth.jsonl"
        self._offset = offset
        self._venue_port = venue_port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Starts a stage, or the venues."""
        command = [sys.executable, "-m", "cexdex", "--config", str(self.folder / "config.json")]
        command += ["--port-offset", str(self._offset), name]
        if name == "venues":
            command = [
                sys.executable,
                "-m",
                "simulator",
                "--rate",
                str(self.rate),
                "--port",
                str(self._venue_port),
            ]
            command += ["--truth", str(self.truth)]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )

    def kill(self, name: str) -> None:
        """kill -9, in the middle of whatever it does."""
        process = self._processes.pop(name)
        assert process.poll() is None, f"{name} had ended by itself: {self.last_words(name)}"
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def stop(self, name: str) -> None:
        """As an operator would: SIGTERM."""
        process = self._processes.pop(name)
        assert process.poll() is None, f"{name} had ended by itself: {self.last_words(name)}"
        process.terminate()
        process.wait(30)

    async def kill_broker(self) -> None:
        """kill -9 of Kafka, and another one over the same data."""
        os.kill(self.broker.child.pid, signal.SIGKILL)
        await self.broker.child.wait()
        await self.broker.start()

    def metrics(self, stage: str) -> str:
        return f"http://127.0.0.1:{9100 + STAGES.index(stage) + self._offset}/metrics"

    def last_words(self, name: str) -> str:
        log = self.folder / f"{name}.log"
        return log.read_text()[-2000:] if log.exists() else "not started"

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(10)

    async def ends(self, *types: str) -> int:
        """How many records the topics of these types hold."""
        reader = consumer(self.config.kafka.servers)
        await reader.start()
        try:
            counts = await partition_counts(self.config)
            names = {topic_of(self.config, declarations()[one]) for one in types}
            return sum(
                (
                    await end_offsets(reader, [TopicPartition(n, p) for n in names for p in range(counts[n])])
                ).values()
            )
        finally:
            await stop_consumer(reader)

    async def more(self, count: int, *types: str, within_s: float = 60.0) -> None:
        """Returns once these topics hold so many more records."""
        goal = await self.ends(*types) + count

        async def there() -> bool:
            return await self.ends(*types) >= goal

        await until(there, what=f"{count} more records of {', '.join(types)}", town=self, within_s=within_s)

    async def stored(self) -> None:
        """Returns once ClickHouse has everything that is in Kafka."""
        from cexdex.cli.lags import sink_lag

        async def nothing_left() -> bool:
            return sum((await sink_lag(self.config)).values()) == 0

        await until(nothing_left, what="everything stored", town=self)

    async def records(self, type: str) -> list[tuple[int, int, dict[str, Any]]]:
        """Every record of a type in its topic: partition, offset and value, in the order of offsets."""
        topic = topic_of(self.config, declarations()[type])
        reader = consumer(self.config.kafka.servers)
        await reader.start()
        found = []
        try:
            partitions = [
                TopicPartition(topic, n) for n in range((await partition_counts(self.config))[topic])
            ]
            reader.assign(partitions)
            begins, ends = await beginning_offsets(reader, partitions), await end_offsets(reader, partitions)
            left = {tp for tp in partitions if begins[tp] < ends[tp]}
            for tp in partitions:
                reader.seek(tp, begins[tp])
            while left:
                for tp, messages in (await reader.getmany(timeout_ms=1000, max_records=5000)).items():
                    for message in messages:
                        if dict(message.headers)["type"] == type.encode():
                            found.append((tp.partition, message.offset, orjson.loads(message.value)))
                    if messages[-1].offset + 1 >= ends[tp]:
                        left.discard(tp)
        finally:
            await stop_consumer(reader)
        return sorted(found, key=lambda one: one[:2])

    async def rows(self, declaration: Declaration) -> list[dict[str, Any]]:
        """Every row of a table with FINAL, as records are written."""
        warehouse = await Warehouse.open(self.config.clickhouse)
        try:
            raw = await warehouse.rows(
                f"SELECT formatRowNoNewline('JSONEachRow', * EXCEPT (_partition, _offset)) FROM"
                f" `{declaration.table}` FINAL SETTINGS output_format_json_quote_64bit_integers = 0,"
                " output_format_json_named_tuples_as_objects = 1"
            )
        finally:
            await warehouse.close()
        return [orjson.loads(row[0]) for row in raw]


async def until(
    condition: Callable[[], Coroutine[Any, Any, bool]], *, what: str, town: Town, within_s: float = 60.0
) -> None:
    """Polls until it holds; fails with the stages' last words."""
    try:
        async with asyncio.timeout(within_s):
            while not await condition():  # noqa: ASYNC110 - processes are asked, there is no event
                await asyncio.sleep(0.2)
    except TimeoutError:
        words = "\n".join(f"{name}: {town.last_words(name)[-600:]}" for name in STAGES)
        raise AssertionError(f"{what} did not come in {within_s:g} s\n{words}") from None


@asynccontextmanager
async def town(folder: Path, jars: Path, machine: Machine, **overrides: Any) -> AsyncIterator[Town]:
    """Venues and stages of their own over a broker of their own; ClickHouse is the tests'."""
    ports = Ports.free()
    broker = Broker(
        folder / "kafka",
        fetch_jars(jars, progress=False),
        port=ports.kafka,
        controller_port=ports.controller,
        log=folder / "kafka.log",
    )
    await broker.start()
    venue_port = free_run(12)  # three venues, four stages, and the simulator's control at +10
    offset = venue_port + 4 - 9100
    password = folder / "clickhouse.password"
    password.write_text(machine.password)
    base = {name: f"127.0.0.1:{venue_port + n}" for n, name in enumerate(("binance", "coinbase", "kraken"))}
    paths = {"binance": "/stream", "coinbase": "", "kraken": "/v2"}
    config = load(
        overrides={
            "kafka": {"servers": broker.bootstrap},
            "topics": {"partitions": 4},
            "clickhouse": {
                "url": machine.clickhouse_url,
                "user": machine.user,
                "database": f"town_{venue_port}",
                "password_file": str(password),
            },
            "venues": {
                name: {"ws_url": f"ws://{host}{paths[name]}", "rest_url": f"http://{host}"}
                for name, host in base.items()
            },
            **overrides,
        }
    )
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    await create_topics(config)
    built = Town(folder, config, broker, offset, venue_port)
    try:
        yield built
    finally:
        built.close()
        await broker.stop()


def free_run(count: int) -> int:
    """The first of `count` free ports in a row."""
    for first in range(21_000 + os.getpid() % 500 * 20, 60_000, 17):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")
