"""A database of its own for each test of the front."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest

from embedded.machine import Machine
from tests.embedded.door import Door


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
