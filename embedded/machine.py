"""Kafka and ClickHouse of one data folder, side by side, for as long as the context lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cexdex.runtime.children import Child
from cexdex.runtime.datafolder import DataFolder
from embedded.clickhouse import ClickHouse
from embedded.jars import fetch_jars
from embedded.kafka import Broker
from embedded.ports import Ports

USER = "default"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the two run."""

    kafka: str
    """Bootstrap servers, as 127.0.0.1:9092."""
    clickhouse_url: str
    user: str
    password: str = field(repr=False)
    ports: Ports
    children: list[Child] = field(repr=False)
    """A caller that wants to know when one ends awaits `child.wait()`; `child.ended_error()` is the sentence to show."""


@asynccontextmanager
async def machine(
    folder: DataFolder, *, ports: Ports, cache: Path, progress: bool = True
) -> AsyncIterator[Machine]:
    """Starts both at once, fetching Kafka's jars into `cache` first if need be; stops both at the end, within 15 s.

    Names every process and how to connect in the folder's run.json. Raises CannotStart: one sentence for the user.
    """
    ports = ports.chosen()
    jars = await asyncio.to_thread(fetch_jars, cache, progress=progress)
    broker = Broker(
        folder.path / "kafka",
        jars,
        port=ports.kafka,
        controller_port=ports.controller,
        log=folder.log("kafka"),
    )
    clickhouse = ClickHouse(
        folder.path / "clickhouse",
        password_file=folder.path / "clickhouse.password",
        port=ports.clickhouse,
        log=folder.log("clickhouse"),
    )
    try:
        children = await _start_both(folder, broker, clickhouse)
        folder.announce(
            ports=asdict(ports),
            kafka=broker.bootstrap,
            clickhouse_url=clickhouse.url,
            user=USER,
            password_file=clickhouse.password_file,
        )
        yield Machine(
            kafka=broker.bootstrap,
            clickhouse_url=clickhouse.url,
            user=USER,
            password=clickhouse.password,
            ports=ports,
            children=children,
        )
    finally:
        await asyncio.shield(asyncio.gather(broker.stop(), clickhouse.stop()))
        folder.drop_processes(folder.running.processes)


async def _start_both(folder: DataFolder, broker: Broker, clickhouse: ClickHouse) -> list[Child]:
    async def started(part: Broker | ClickHouse) -> Child:
        child = await part.start()
        folder.add_processes(child.processes)
        return child

    starts = [asyncio.create_task(started(part)) for part in (broker, clickhouse)]
    try:
        return list(await asyncio.gather(*starts))
    except BaseException:
        # The first fault is told; the other part is not left starting.
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        raise
