"""What a publisher's queue is made of: a lane for each partition, a route for each record type."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from cexdex.domain.murmur2 import partition_of
from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import Record
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus

Slot = tuple[type[Record], str]


class Waiting:
    __slots__ = ("dropped", "header", "key", "received_at", "slot", "value")

    def __init__(self, key: bytes, value: bytes, header: bytes, slot: Slot | None, received_at: int) -> None:
        self.key = key
        self.value = value
        self.header = header
        self.slot = slot
        self.received_at = received_at
        self.dropped = False


class Lane:
    """One partition: what waits, and the one batch in flight."""

    __slots__ = ("alone", "appended", "error", "flight", "partition", "settled", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[Waiting] = deque()
        self.flight: list[Waiting] = []
        self.appended = 0
        self.settled = 0
        self.alone = 0
        self.error: BaseException | None = None

    def take(self, batch: Any, newest: dict[Slot, Waiting]) -> list[Waiting]:
        """Moves what fits from the queue into the batch."""
        flight: list[Waiting] = []
        while self.waiting:
            entry = self.waiting[0]
            if not entry.dropped:
                headers = [("type", entry.header)]
                if batch.append(timestamp=None, key=entry.key, value=entry.value, headers=headers) is None:
                    break
                if entry.slot is not None and newest.get(entry.slot) is entry:
                    del newest[entry.slot]
            flight.append(self.waiting.popleft())
            if self.alone:
                self.alone -= 1
                if not entry.dropped:
                    break
        self.flight = flight
        return flight

    def give_back(self) -> None:
        """What was in flight is the first to go again. Nothing of it is replaced by newer records any more: it may
        have arrived."""
        for entry in self.flight:
            entry.slot = None
        self.waiting.extendleft(reversed(self.flight))
        self.flight = []


class Route:
    """Where the records of one type go."""

    __slots__ = ("_field", "_key_of", "_known", "_lanes", "header")

    def __init__(
        self, lanes: list[Lane], header: bytes, key: tuple[str, ...], key_of: Callable[[Record], bytes]
    ) -> None:
        self.header = header
        self._lanes = lanes
        self._key_of = key_of
        self._field = attrgetter(*key)
        self._known: dict[Any, tuple[bytes, Lane]] = {}

    def of(self, record: Record) -> tuple[bytes, Lane]:
        field = self._field(record)
        found = self._known.get(field)
        if found is None:
            key = self._key_of(record)
            found = key, self._lanes[partition_of(key, len(self._lanes))]
            if len(self._known) >= 10_000:  # Keys such as alert ids have no end.
                self._known.clear()
            self._known[field] = found
        return found


@dataclass(slots=True)
class Lost:
    """Trades of one instrument that a full queue dropped."""

    first: Trade
    count: int = 0
    until: int = 0

    def add(self, trade: Trade) -> None:
        self.count += 1
        self.until = trade.received_at

    def status(self) -> VenueStatus:
        return VenueStatus(
            event_time=None,
            received_at=self.until,
            market=self.first.market,
            venue=self.first.venue,
            instrument=self.first.instrument,
            kind="gap",
            started_at=self.first.received_at,
            ended_at=self.until,
            reason="the queue to Kafka was full",
            lost=self.count,
        )


def slot_of(record: Record) -> Slot | None:
    """What a newer record may take the place of: an exchange's live quote or book of the same instrument."""
    if isinstance(record, Quote):
        return (Quote, record.instrument) if record.state == "live" and record.block_hash is None else None
    if isinstance(record, Book):
        return (Book, record.instrument) if record.state == "live" else None
    return None
