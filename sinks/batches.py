"""What was read from Kafka and is not yet in ClickHouse, and how far a commit may go.

A batch belongs to one table and mixes partitions. Once handed out it is frozen: the same rows under the same token
until ClickHouse has them, because an answer that was lost may have been a yes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cexdex.records.dead_letters import DeadLetter
from cexdex.records.record import Declaration
from sinks.table import strict

Partition = tuple[str, int]
"""A topic's full name and the number of its partition."""

BATCH_ROWS = 20_000
BATCH_BYTES = 8 << 20
BATCH_DAYS = 50
"""ClickHouse takes 100 partitions an insert, and a partition is a day."""
QUICK_S = 0.5
SLOW_S = 2.0
QUICK = frozenset({"quotes", "spreads"})
DAY_US = 86_400_000_000
PAYLOAD_BYTES = 64 << 10


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


@dataclass(frozen=True, slots=True)
class _Feed:
    table: str
    decode: Callable[[bytes], Any]
    time: str


class Batches:
    """Takes values, hands out batches, tells what to commit.

    feeds: the record types of each topic, by the topic's full name; token: gives a new random text each time.
    """

    def __init__(self, feeds: Mapping[str, Iterable[Declaration]], token: Callable[[], str]) -> None:
        self._token = token
        self._feeds = {
            (topic, declaration.type): _Feed(declaration.table, strict(declaration).decode, declaration.time)
            for topic, found in feeds.items()
            for declaration in found
        }
        self._topics = {declaration.table: topic for topic, found in feeds.items() for declaration in found}
        self._waiting: dict[str, list[Batch]] = {}
        self._frozen: dict[str, Batch] = {}
        self._stopped: dict[Partition, int] = {}
        self._stopped_tables: set[str] = set()
        self._read: dict[Partition, int] = {}
        self.rows = 0
        self.bytes = 0

    def start(self, partition: Partition, offset: int) -> None:
        """Reading of this partition begins at `offset`."""
        self._read[partition] = offset

    def take(
        self, partition: Partition, offset: int, type_: str | None, value: bytes | None, now: float
    ) -> str | None:
        """Takes a value, or says in words why it is no record. type_: its Kafka header; now: seconds."""
        self._read[partition] = offset + 1
        type_ = type_ if type_ is not None else _type_in(value)
        feed = self._feeds.get((partition[0], type_ or ""))
        if feed is None:
            return f"there is no record type {type_!r} in this topic"
        try:
            record = feed.decode(value or b"")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return f"not a {type_}: {error}"[:500]
        if feed.table in self._stopped_tables:
            self._stopped.setdefault(partition, offset)
            return None
        assert value is not None
        time = getattr(record, feed.time)
        self._put(feed.table, partition, offset, value, record.received_at if time is None else time, now)
        return None

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
                first.token = self._token()
                self._frozen[table] = first
                ready.append(first)
        return ready

    def stored(self, batch: Batch) -> None:
        """ClickHouse has it."""
        self._drop(batch)
        self._frozen.pop(batch.table, None)

    def refused(self, batch: Batch) -> None:
        """ClickHouse will never take it: nothing more is kept for its table, and no commit goes past it."""
        self._stopped_tables.add(batch.table)
        for dropped in (batch, *self._waiting.pop(batch.table, ())):
            self._drop(dropped)
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
            self.rows -= 1
            self.bytes -= len(row)
        batch.token = self._token()
        topic = self._topics[batch.table]
        return [((topic, where.partition), where.offset, row) for row in repeats for where in [_where(row)]]

    def forget(self, partition: Partition) -> None:
        """Another owns the partition from now on; what is in flight may still be stored, by both."""
        self._read.pop(partition, None)
        self._stopped.pop(partition, None)

    def commits(self) -> dict[Partition, int]:
        """For each partition the lowest offset that some table fed by it has not stored yet."""
        result = dict(self._read)
        pending = [
            *self._frozen.values(),
            *(batch for batches in self._waiting.values() for batch in batches),
        ]
        for first in (*(batch.first for batch in pending), self._stopped):
            for partition, offset in first.items():
                if offset < result.get(partition, offset):
                    result[partition] = offset
        return result

    def position(self, partition: Partition) -> int:
        """The offset that is read next."""
        return self._read.get(partition, 0)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self.rows == 0

    def _put(
        self, table: str, partition: Partition, offset: int, value: bytes, time: int, now: float
    ) -> None:
        batches = self._waiting.setdefault(table, [])
        day = time // DAY_US
        last = batches[-1] if batches else None
        if last is None or last.full or (day not in last.days and len(last.days) >= BATCH_DAYS):
            last = Batch(table, now)
            batches.append(last)
        row = b'{"_partition":%d,"_offset":%d,%b' % (partition[1], offset, value.lstrip()[1:])
        last.rows.append(row)
        last.size += len(row)
        last.days.add(day)
        last.first.setdefault(partition, offset)
        self.rows += 1
        self.bytes += len(row)

    def _drop(self, batch: Batch) -> None:
        self.rows -= len(batch.rows)
        self.bytes -= batch.size


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


def _type_in(value: bytes | None) -> str | None:
    """The type that a value without a header claims."""
    try:
        return msgspec.json.decode(value or b"", type=_Typed).type
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class _Typed(msgspec.Struct):
    type: str


class _Where(msgspec.Struct, rename={"partition": "_partition", "offset": "_offset"}):
    partition: int
    offset: int


def _where(row: bytes) -> _Where:
    return msgspec.json.decode(row, type=_Where)


def _repeats_a_field(row: bytes) -> bool:
    repeated = False

    def noted(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        names = [name for name, _ in pairs]
        repeated = repeated or len(set(names)) < len(names)

    json.loads(row, object_pairs_hook=noted)
    return repeated
