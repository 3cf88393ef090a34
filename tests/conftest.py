"""The real parts, started once for all tests that ask for them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from cexdex.runtime.datafolder import DataFolder
from embedded.machine import Machine
from embedded.machine import machine as started
from embedded.ports import Ports

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def jar_cache() -> Path:
    """Where Kafka's jars are kept between test runs."""
    return Path(os.environ.get("CEXDEX_CACHE") or REPOSITORY / ".cexdex" / "jars")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, jar_cache: Path) -> Iterator[Machine]:
    """A running Kafka and ClickHouse, shared by the whole test session: use topics and databases of your own."""
    folder = tmp_path_factory.mktemp("machine") / "data"
    with running(folder, jar_cache) as machine:
        yield machine


@contextmanager
def running(folder: Path, jar_cache: Path, ports: Ports | None = None) -> Iterator[Machine]:
    """A machine on a loop and thread of its own, for each test has another loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="machine", daemon=True)
    thread.start()
    opened = _opened(folder, jar_cache, ports or Ports.free())
    try:
        machine = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(timeout=110)
        try:
            yield machine
        finally:
            asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(timeout=60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


@asynccontextmanager
async def _opened(folder: Path, jar_cache: Path, ports: Ports) -> AsyncIterator[Machine]:
    with DataFolder.take(folder, kind="test") as taken:
        async with started(taken, ports=ports, cache=jar_cache, progress=False) as machine:
            yield machine
