"""A configuration of one's own on the running machine, and records to store."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest

from cexdex.config import Config, load
from embedded.machine import Machine

_numbers = itertools.count()


@pytest.fixture
def config(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Topics and a database that no other test has."""
    return own_config(machine, monkeypatch)


@pytest.fixture
def own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Config]:
    """The same with a database name of the test's choice."""
    return lambda database: own_config(machine, monkeypatch, database)


def own_config(machine: Machine, monkeypatch: pytest.MonkeyPatch, database: str | None = None) -> Config:
    monkeypatch.setenv("CEXDEX_CLICKHOUSE_PASSWORD", machine.password)
    name = f"t{os.getpid()}_{next(_numbers)}"
    return load(
        overrides={
            "kafka": {"servers": machine.kafka},
            "topics": {"prefix": f"{name}.", "partitions": 2},
            "clickhouse": {"url": machine.clickhouse_url, "user": machine.user, "database": database or name},
        }
    )
