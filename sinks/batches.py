"""What was read from Kafka and is not yet in ClickHouse, and how far a commit may go.

A batch belongs to one table and mixes partitions. Once handed out it is frozen: the same rows under the same token
until ClickHouse has them, because an answer that was lost may have been a yes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec

from cexdex.records.dead_letters import DeadLetter
from cexdex.records.record import Declaration
from sinks.table import strict

Partition = tuple[str, int]
"""A topic's full name and the number of its partition."""
Value = tuple[int, bytes | None, bytes | None]
"""Offset, the Kafka header `type`, and the value."""

BATCH_ROWS = 20_000
BATCH_BYTES = 8 << 20
BATCH_DAYS = 50
"""ClickHouse takes 100 partitions an insert, and a partition is a day."""
QUICK_S = 0.5
SLOW_S = 2.0
QUICK = frozenset({"quotes", "spreads"})
DAY_US = 86_400_000_000
PAYLOAD_BYTES = 64 << 10
BRACE = ord("{")


@dataclass(slots=True, eq=False)
class Batch:
    """Rows of one insert."""

    table: str
    since: float
    """When its first row was read, on the caller's clock, in seconds."""
    token: str = ""
    rows: list[bytes] = field(default_factory=list)
    size: int = 0
    days: set[int] = field(default_factory=set)
    first: dict[Partition, int] = field(default_factory=dict)
    """The lowest offset of each partition that is in it."""

    @property
    def full(self) -> bool:
        return len(self.rows) >= BATCH_ROWS or self.size >= BATCH_BYTES

    @property
    def body(self) -> bytes:
        """JSONEachRow."""
        return b"\n".join(self.rows)


@dataclass(slots=True)
class _Feed:
    table: str
    topic: str
    decode: Callable[[bytes], Any]
    time: Callable[[Any], int | None]
    open: Batch | None = None
    """The batch that the next row goes into."""
    stopped: bool = False


class Batches:
    """Takes values, hands out batches, tells what to commit.

    feeds: the record types of each topic, by the topic's full name; token: gives a new random text each time.
    """

    def __init__(self, feeds: Mapping[str, Iterable[Declaration]], token: Callable[[], str]) -> None:
        self._token = token
        self._feeds: dict[str, dict[bytes, _Feed]] = {}
        self._tables: dict[str, _Feed] = {}
        for topic, found in feeds.items():
            for declaration in found:
                decode, time = strict(declaration).decode, attrgetter(declaration.time)
                feed = _Feed(declaration.table, topic, decode, time)
                self._tables[declaration.table] = feed
                self._feeds.setdefault(topic, {})[declaration.type.encode()] = feed
        self._waiting: dict[str, list[Batch]] = {}
        self._frozen: dict[str, Batch] = {}
        self._stopped: dict[Partition, int] = {}
        self._read: dict[Partition, int] = {}

    def start(self, partition: Partition, offset: int) -> None:
        """Reading of this partition begins at `offset`."""
        self._read[partition] = offset

    def take(self, partition: Partition, values: Iterable[Value], now: float) -> list[tuple[int, str]]:
        """Takes values of one partition in their order; answers with the offset of each that is no record, and why.

        now: seconds. One loop with few calls: at a hundred thousand rows a second a microsecond is a tenth of a core.
        """
        faults: list[tuple[int, str]] = []
        feeds = self._feeds[partition[0]]
        prefix = b'{"_partition":%d,"_offset":' % partition[1]
        offset = self._read[partition] - 1
        for offset, header, value in values:
            type_ = header if header is not None else _type_in(value)
            feed = feeds.get(type_)
            if feed is None:
                faults.append((offset, f"there is no record type {_shown(type_)} in this topic"))
                continue
            try:
                record = feed.decode(value or b"")
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                faults.append((offset, f"not a record of {feed.table}: {error}"[:500]))
                continue
            if feed.stopped:
                self._stopped.setdefault(partition, offset)
                continue
            assert value is not None
            time = feed.time(record)
            day = (record.received_at if time is None else time) // DAY_US
            batch = feed.open
            if batch is None or len(batch.rows) >= BATCH_ROWS or batch.size >= BATCH_BYTES:
                batch = self._begin(feed, now)
            if day not in batch.days:
                if len(batch.days) >= BATCH_DAYS:
                    batch = self._begin(feed, now)
                batch.days.add(day)
            row = b"%b%d,%b" % (prefix, offset, value[1:] if value[0] == BRACE else value.lstrip()[1:])
            batch.rows.append(row)
            batch.size += len(row)
            if partition not in batch.first:
                batch.first[partition] = offset
        self._read[partition] = offset + 1
        return faults

    def due(self, now: float, *, all_: bool = False) -> list[Batch]:
        """Freezes and hands out what is to be inserted now: at most one batch a table at a time.

        A table's rows are due when they fill a batch, or have waited 500 ms (quotes, spreads) or 2 s; all_: at once.
        """
        ready: list[Batch] = []
        for table, batches in self._waiting.items():
            if table in self._frozen or not batches:
                continue
            first = batches[0]
            wait = QUICK_S if table in QUICK else SLOW_S
            if all_ or len(batches) > 1 or first.full or now - first.since >= wait:
                batches.pop(0)
                if self._tables[table].open is first:
                    self._tables[table].open = None
                first.token = self._token()
                self._frozen[table] = first
                ready.append(first)
        return ready

    def stored(self, batch: Batch) -> None:
        """ClickHouse has it."""
        self._frozen.pop(batch.table, None)

    def refused(self, batch: Batch) -> None:
        """ClickHouse will never take it: nothing more is kept for its table, and no commit goes past it."""
        feed = self._tables[batch.table]
        feed.stopped, feed.open = True, None
        for dropped in (batch, *self._waiting.pop(batch.table, ())):
            for partition, offset in dropped.first.items():
                self._stopped[partition] = min(offset, self._stopped.get(partition, offset))
        self._frozen.pop(batch.table, None)

    def without_repeats(self, batch: Batch) -> list[tuple[Partition, int, bytes]]:
        """Takes the rows out of a frozen batch that name a field twice, and answers with where they came from.

        JSON allows it and our decoder takes the last; ClickHouse refuses the whole insert. So this is looked for only
        after such a refusal. The rest is another insert, under another token.
        """
        repeats = [row for row in batch.rows if _repeats_a_field(row)]
        for row in repeats:
            batch.rows.remove(row)
            batch.size -= len(row)
        batch.token = self._token()
        topic = self._tables[batch.table].topic
        return [((topic, place.partition), place.offset, row) for row in repeats for place in [_place(row)]]

    def forget(self, partition: Partition) -> None:
        """Another owns the partition from now on; what is in flight may still be stored, by both."""
        self._read.pop(partition, None)
        self._stopped.pop(partition, None)

    def commits(self) -> dict[Partition, int]:
        """For each partition the lowest offset that some table fed by it has not stored yet."""
        result = dict(self._read)
        for first in (*(batch.first for batch in self._pending()), self._stopped):
            for partition, offset in first.items():
                if offset < result.get(partition, offset):
                    result[partition] = offset
        return result

    def reads(self, partition: Partition) -> bool:
        """Whether reading of this partition has begun."""
        return partition in self._read

    def position(self, partition: Partition) -> int:
        """The offset that is read next."""
        return self._read.get(partition, 0)

    @property
    def rows(self) -> int:
        """How many wait or are in flight."""
        return sum(len(batch.rows) for batch in self._pending())

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(batch.size for batch in self._pending())

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not any(True for _ in self._pending())

    def _begin(self, feed: _Feed, now: float) -> Batch:
        feed.open = Batch(feed.table, now)
        self._waiting.setdefault(feed.table, []).append(feed.open)
        return feed.open

    def _pending(self) -> Iterator[Batch]:
        yield from self._frozen.values()
        for batches in self._waiting.values():
            yield from batches


def dead_letter(
    partition: Partition, offset: int, appended_at: int, value: bytes | None, error: str
) -> DeadLetter:
    """What is kept of a value that is not a record. appended_at: its LogAppendTime in µs."""
    payload = value or b""
    return DeadLetter(
        received_at=appended_at,
        origin=f"{partition[0]}/{partition[1]}",
        topic=partition[0],
        partition=partition[1],
        offset=offset,
        error=error,
        payload=base64.b64encode(payload[:PAYLOAD_BYTES]).decode(),
        length=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
    )


class _Typed(msgspec.Struct):
    type: str


class _Place(msgspec.Struct, rename={"partition": "_partition", "offset": "_offset"}):
    partition: int
    offset: int


_type_of = msgspec.json.Decoder(_Typed).decode
_place = msgspec.json.Decoder(_Place).decode


def _type_in(value: bytes | None) -> bytes:
    """The type that a value without a header claims."""
    try:
        return _type_of(value or b"").type.encode()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b""


def _shown(type_: bytes) -> str:
    return repr(type_.decode(errors="replace")[:100])


def _repeats_a_field(row: bytes) -> bool:
    repeated = False

    def noted(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        names = [name for name, _ in pairs]
        repeated = repeated or len(set(names)) < len(names)

    json.loads(row, object_pairs_hook=noted)
    return repeated
