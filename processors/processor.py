"""The seam of a metric: a processor is state under one market, told records and the time."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from cexdex.config import Config
from cexdex.records.record import Record


class Processor(Protocol):
    """State of one market. The same records in the same order give the same bytes.

    A module of this package that has `PROCESSOR = ItsClass` takes part; nothing else names it. The class is called
    with (market, config). Between processors of one market records pass directly: who `reads` what another `writes`
    is given exactly the records that are published.
    """

    reads: ClassVar[tuple[type[Record], ...]]
    writes: ClassVar[tuple[type[Record], ...]]
    lookback_us: ClassVar[int]
    """Input older than this cannot matter any more."""
    recalls: ClassVar[tuple[type[Record], ...]]
    """Which of its own records it needs back after a restart, because the lookback cannot rebuild what they say."""

    def recall(self, own: Record) -> None:
        """Its own last records after a restart, before any input."""
        ...

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        """A record of the market, or one of a small topic that has taken effect; `now` is stream time."""
        ...

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        """Each multiple of 100 ms of stream time, before the record that reaches it; `offset` is the last one's."""
        ...


Make = Callable[[str, Config], Processor]


def discover() -> dict[str, Make]:
    """Every processor of this package by its module's name, readers after writers."""
    import processors

    found: dict[str, Make] = {}
    for module in pkgutil.iter_modules(processors.__path__):
        make = getattr(importlib.import_module(f"processors.{module.name}"), "PROCESSOR", None)
        if make is not None:
            found[module.name] = make
    return {name: found[name] for name in _in_order(found)}


def _in_order(found: dict[str, Make]) -> list[str]:
    ordered: list[str] = []
    waiting = sorted(found)
    while waiting:
        written = {record for name in waiting for record in found[name].writes}  # type: ignore[attr-defined]
        free = [name for name in waiting if not written & set(found[name].reads)]  # type: ignore[attr-defined]
        if not free:
            raise ValueError(f"processors {', '.join(waiting)} read in a circle")
        ordered += free
        waiting = [name for name in waiting if name not in free]
    return ordered
