"""The embedded Kafka and ClickHouse on free ports and a data folder that is gone afterwards, and processes beside them."""

from __future__ import annotations

import json
import sys
import tempfile
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cexdex.config import Config, load
from cexdex.runtime.datafolder import DataFolder
from cexdex.runtime.kafka import create_topics
from embedded.jars import default_cache
from embedded.machine import Machine, machine
from embedded.ports import Ports

PARTITIONS = 4


@dataclass
class Parts:
    """A running machine and the configuration that points at it, also as a file for other processes."""

    machine: Machine
    config: Config
    file: Path
    folder: Path

    def cpu_s(self, name: str) -> float:
        """Processor seconds that a part has used so far, its children included."""
        pid = next(child.pid for child in self.machine.children if child.name == name)
        return cpu_s(pid)


@asynccontextmanager
async def parts(**overrides: Any) -> AsyncIterator[Parts]:
    with tempfile.TemporaryDirectory(prefix="cexdex-bench-") as temporary:
        folder = Path(temporary) / "data"
        with DataFolder.take(folder, kind="bench") as owned:
            async with machine(owned, ports=Ports.free(), cache=default_cache(), progress=False) as running:
                config = load(
                    overrides={
                        "kafka": {"servers": running.kafka},
                        "topics": {"partitions": PARTITIONS},
                        "clickhouse": {
                            "url": running.clickhouse_url,
                            "user": running.user,
                            "password_file": str(owned.running.password_file),
                            "database": "bench",
                        },
                        **overrides,
                    }
                )
                file = folder / "bench.json"
                file.write_text(json.dumps(config.model_dump(mode="json")))
                await create_topics(config)
                yield Parts(running, config, file, folder)


async def role(module: str, *arguments: str) -> Process:
    """`python -m module arguments`, whose standard output is read by the caller."""
    command = [sys.executable, "-m", module, *arguments]
    return await create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 24)


async def plain_topics(servers: str, *names: str) -> None:
    """Topics of one partition, with nothing of ours in them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1) for name in names])
    finally:
        await admin.close()


def cpu_s(pid: int) -> float:
    total = 0.0
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        total += times.user + times.system
    return total
