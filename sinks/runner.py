"""From Kafka into ClickHouse: insert, then commit.

A crash between the two inserts the batch in doubt again, and the table keeps one row of each natural id. Whatever is
not what its record says is put into dead_letters first; what ClickHouse refuses after that is a bug of ours and stops
its table, and with it the commits of the partitions that feed it.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from prometheus_client import Counter, Gauge, Histogram

from cexdex.config import Config
from cexdex.records.dead_letters import DeadLetter
from cexdex.records.record import Declaration, declaration_of, declarations
from cexdex.runtime.clickhouse import ClickHouseRefusedError, ClickHouseUnavailableError, Warehouse
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import (
    Publisher,
    TopicPartition,
    beginning_offsets,
    commit,
    committed,
    consumer,
    end_offsets,
    partition_counts,
    stop_consumer,
    topic_of,
)
from cexdex.runtime.metrics import Monitor
from sinks.batches import Batch, Batches, Partition, dead_letter
from sinks.schema.runner import prepare_tables

log = structlog.get_logger(__name__)

WAITING_ROWS = 100_000
WAITING_BYTES = 48 << 20
"""Reading pauses while so much waits for ClickHouse."""
READ_RECORDS = 5_000
COMMIT_S = 0.5
RECOMMIT_S = 600.0
"""Kafka forgets a commit that is not renewed for a week, and a small topic may have nothing new for longer."""
LETTERS_PER_S = 10
CODE_INCORRECT_DATA = 117

_rows = Counter("cexdex_sink_rows", "rows stored", ["table"])
_seconds = Histogram("cexdex_sink_insert_seconds", "one insert", ["table"])
_waiting = Gauge("cexdex_sink_waiting_rows", "rows read and not stored")
_lag = Gauge("cexdex_sink_lag_records", "records of a topic not yet stored", ["topic"])
_letters = Counter("cexdex_sink_dead_letters", "values that are not records", ["topic", "kept"])
_lost = Counter("cexdex_sink_lost_records", "records deleted by Kafka before they were stored", ["topic"])


class SinkRefusedError(Exception):
    """The sink does not go on; one sentence says why and what to do."""


async def run(
    config: Config,
    *,
    until_end: bool = False,
    prepare: bool = True,
    shared: bool = False,
    monitor: Monitor | None = None,
) -> None:
    """Stores every topic until it is cancelled, then finishes what is in flight.

    until_end: returns when all that was in the topics at the start is stored and committed. prepare: makes and
    completes the tables first. shared: several sinks divide the partitions among them as one consumer group; otherwise
    this one takes them all. Raises SinkRefusedError, TableMismatchError, KafkaUnavailableError and
    ClickHouseUnavailableError, each with one sentence.
    """
    if prepare:
        await prepare_tables(config)
    if shared and until_end:
        raise ValueError("a sink that shares its topics does not know when all is stored")
    sink = _Sink(config, monitor or Monitor("sink", port=0), shared)
    try:
        await sink.start()
        await sink.store(until_end=until_end)
    finally:
        await sink.stop()


def group(config: Config) -> str:
    """The consumer group that the sink commits to."""
    return f"{config.topics.prefix}sink"


class _Sink:
    def __init__(self, config: Config, monitor: Monitor, shared: bool) -> None:
        self._config = config
        self._monitor = monitor
        self._shared = shared
        self._feeds: dict[str, list[Declaration]] = {}
        for declaration in declarations().values():
            self._feeds.setdefault(topic_of(config, declaration), []).append(declaration)
        self._batches = Batches(self._feeds, lambda: uuid.uuid4().hex)
        self._reader = consumer(config.kafka.servers, group=group(config), max_wait_ms=200)
        self._letters = Publisher(config, name="sink")
        self._letters_topic = topic_of(config, declaration_of(DeadLetter))
        self._lettered = False
        self._letter_second: dict[str, tuple[int, int]] = {}
        self._warehouse: Warehouse | None = None
        self._inserts: dict[asyncio.Task[None], Batch] = {}
        self._refused: SinkRefusedError | None = None
        self._failed: Exception | None = None
        """What went wrong when partitions were given to this sink: aiokafka only logs it."""
        self._ends: dict[TopicPartition, int] = {}
        """Where to stop; empty when it goes on for ever."""
        self._committed: dict[Partition, int] = {}
        self._commit_at = 0.0
        self._recommit_at = 0.0

    async def start(self) -> None:
        counts = await partition_counts(self._config)
        self._warehouse = await Warehouse.open(self._config.clickhouse)
        await self._letters.start()
        await self._reader.start()
        if self._shared:
            self._reader.subscribe(list(self._feeds), listener=_Moves(self))
            return
        partitions = [
            TopicPartition(topic, number) for topic in self._feeds for number in range(counts[topic])
        ]
        self._reader.assign(partitions)
        await self._place(partitions)

    async def given(self, partitions: Iterable[TopicPartition]) -> None:
        """The group gives these partitions to this sink."""
        try:
            await self._place(partitions)
        except Exception as error:
            self._failed = error

    async def taken(self, partitions: Iterable[TopicPartition]) -> None:
        """The group takes these partitions away: another goes on where this one has committed."""
        with suppress(KafkaError):
            await self._commit(now=True)
        for partition in partitions:
            self._batches.forget(partition)
            self._committed.pop(partition, None)

    async def store(self, *, until_end: bool) -> None:
        partitions = sorted(self._reader.assignment())
        ends = self._ends = await end_offsets(self._reader, partitions) if until_end else {}
        while True:
            if until_end and self._lettered and self._read_to(ends):
                await self._letters.flush()
                letters = [partition for partition in partitions if partition.topic == self._letters_topic]
                ends |= await end_offsets(self._reader, letters)
                self._lettered = False
            if until_end and self._batches.idle and self._read_to(ends) and not self._inserts:
                break
            self._start_inserts()
            if self._failed is not None:
                raise self._failed
            if self._refused is not None and until_end:
                raise self._refused
            await self._reap()
            await self._commit()
            await self._read()
        await self._commit(now=True)

    async def stop(self) -> None:
        """Waits a while for the inserts in flight, commits what they stored, and closes everything in bounded time."""
        if self._inserts:
            await asyncio.wait(self._inserts, timeout=5.0)
        for task in self._inserts:
            task.cancel()
        await asyncio.gather(*self._inserts, return_exceptions=True)
        with suppress(Exception):
            await asyncio.wait_for(self._commit(now=True), 5.0)
        await stop_consumer(self._reader)
        await self._letters.stop(within_s=5.0)
        if self._warehouse is not None:
            await self._warehouse.close()

    async def _read(self) -> None:
        """Takes what Kafka has; waits for ClickHouse instead while too much waits for it."""
        if self._batches.rows >= WAITING_ROWS or self._batches.bytes >= WAITING_BYTES:
            await asyncio.wait(self._inserts, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
            return
        try:
            got = await self._reader.getmany(timeout_ms=100, max_records=READ_RECORDS)
        except OffsetOutOfRangeError as error:
            await self._place([TopicPartition(*partition) for partition in error.args[0]])
            return
        except KafkaError as error:
            self._monitor.problem("kafka", f"Kafka cannot be read: {error!r}")
            await asyncio.sleep(0.5)
            return
        self._monitor.well("kafka")
        now = time.monotonic()
        for partition, records in got.items():
            if not self._batches.reads(partition):
                continue  # It was just given to us and has no place yet.
            values = ((record.offset, _type(record.headers), record.value) for record in records)
            for offset, fault in self._batches.take(partition, values, now):
                record = next(record for record in records if record.offset == offset)
                self._bury(partition, offset, record.timestamp * 1000, record.value, fault)
        _waiting.set(self._batches.rows)

    def _start_inserts(self) -> None:
        at_end = bool(self._ends) and self._read_to(self._ends)
        for batch in self._batches.due(time.monotonic(), all_=at_end):
            self._inserts[asyncio.create_task(self._insert(batch))] = batch

    async def _insert(self, batch: Batch) -> None:
        pause = 0.1
        while True:
            assert self._warehouse is not None
            try:
                with _seconds.labels(batch.table).time():
                    if batch.rows:
                        await self._warehouse.insert(batch.table, batch.body, token=batch.token)
            except ClickHouseUnavailableError as error:
                self._monitor.problem("clickhouse", str(error))
                log.warning(
                    "an insert is tried again", table=batch.table, rows=len(batch.rows), error=str(error)
                )
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, 5.0)
                await self._reopen()
            except ClickHouseRefusedError as error:
                repeats = self._batches.without_repeats(batch) if error.code == CODE_INCORRECT_DATA else []
                for partition, offset, row in repeats:
                    self._bury(partition, offset, now_us(), row, "a field stands in it twice")
                if not repeats:
                    self._stop_table(batch, error)
                    return
            else:
                self._monitor.well("clickhouse")
                _rows.labels(batch.table).inc(len(batch.rows))
                self._batches.stored(batch)
                self._start_inserts()
                return

    async def _reopen(self) -> None:
        """Another client, since the password may have been changed meanwhile."""
        with suppress(ClickHouseUnavailableError, ClickHouseRefusedError):
            fresh = await Warehouse.open(self._config.clickhouse)
            old, self._warehouse = self._warehouse, fresh
            if old is not None:
                await old.close()

    def _stop_table(self, batch: Batch, error: ClickHouseRefusedError) -> None:
        sentence = f"ClickHouse refuses rows of {batch.table}, so nothing more is stored in it: {error}"
        self._batches.refused(batch)
        self._monitor.problem(f"table {batch.table}", sentence)
        log.error(
            "a table has stopped", table=batch.table, error=str(error), first_row=batch.rows[0][:500].decode()
        )
        self._refused = SinkRefusedError(sentence)

    async def _reap(self) -> None:
        for task in [task for task in self._inserts if task.done()]:
            del self._inserts[task]
            task.result()

    async def _commit(self, *, now: bool = False) -> None:
        """Commits what every table fed by a partition has stored; dead letters are acknowledged before."""
        clock = time.monotonic()
        if not now and clock < self._commit_at:
            return
        self._commit_at = clock + COMMIT_S
        wanted = self._batches.commits()
        if clock >= self._recommit_at:
            self._recommit_at = clock + RECOMMIT_S
        else:
            wanted = {p: offset for p, offset in wanted.items() if offset > self._committed.get(p, -1)}
        if not wanted:
            return
        if self._lettered:
            await self._letters.flush()
        try:
            await commit(self._reader, {TopicPartition(*p): offset for p, offset in wanted.items()})
        except KafkaError as error:
            self._monitor.problem("kafka", f"Kafka does not take a commit: {error!r}")
            self._recommit_at = 0.0
            return
        self._committed.update(wanted)
        self._show_lag()

    def _bury(
        self, partition: Partition, offset: int, appended_at: int, value: bytes | None, error: str
    ) -> None:
        """At most ten dead letters a second and partition; the rest is counted."""
        origin = f"{partition[0]}/{partition[1]}"
        second = int(time.monotonic())
        at, count = self._letter_second.get(origin, (second, 0))
        count = count + 1 if at == second else 1
        self._letter_second[origin] = (second, count)
        kept = count <= LETTERS_PER_S
        _letters.labels(partition[0], "yes" if kept else "no").inc()
        if kept:
            log.warning("a value is not a record", origin=origin, offset=offset, error=error)
            self._letters.publish(dead_letter(partition, offset, appended_at, value, error))
            self._lettered = True

    async def _place(self, partitions: Iterable[TopicPartition]) -> None:
        """Puts each partition where its commit stands. Raises SinkRefusedError when tables and commits disagree."""
        partitions = list(partitions)
        begins = await beginning_offsets(self._reader, partitions)
        ends = await end_offsets(self._reader, partitions)
        commits = await committed(self._reader, partitions)
        new = [partition for partition in partitions if commits[partition] is None]
        await self._refuse_rows_without_commit(new)
        for partition in partitions:
            offset = commits[partition]
            begin, end = begins[partition], ends[partition]
            if offset is not None and offset > end:
                raise SinkRefusedError(
                    f"{partition.topic}/{partition.partition} ends at {end} where the sink had stored up to {offset}:"
                    " the topic was made anew or has lost records; `cexdex tables --set-aside` moves the tables aside"
                )
            if offset is not None and offset < begin:
                self._record_loss(partition, offset, begin)
            start = max(begin, offset or 0)
            self._reader.seek(partition, start)
            self._batches.start(partition, start)
        # Before any row is stored, so that rows without a commit can only mean a topic that was made anew.
        await commit(self._reader, {p: max(begins[p], commits[p] or 0) for p in partitions})

    async def _refuse_rows_without_commit(self, partitions: list[TopicPartition]) -> None:
        by_topic: dict[str, list[int]] = {}
        for partition in partitions:
            by_topic.setdefault(partition.topic, []).append(partition.partition)
        assert self._warehouse is not None
        for topic, numbers in by_topic.items():
            for declaration in self._feeds[topic]:
                sql = f"SELECT _partition FROM `{declaration.table}` WHERE _partition IN {{numbers:Array(UInt32)}} LIMIT 1 SETTINGS final = 0"
                try:
                    rows = await self._warehouse.rows(sql, {"numbers": numbers})
                except ClickHouseRefusedError as error:
                    raise SinkRefusedError(
                        f"table {declaration.table} cannot be read: {error}; `cexdex tables --create` makes it"
                    ) from error
                if rows:
                    raise SinkRefusedError(
                        f"table {declaration.table} holds rows of {topic}, where the sink has no commit: the topic was"
                        " made anew; `cexdex tables --set-aside` moves the old tables aside"
                    )

    def _record_loss(self, partition: TopicPartition, offset: int, begin: int) -> None:
        sentence = f"{begin - offset} records ({offset} to {begin - 1}) were deleted by Kafka before they were stored"
        log.error(
            "records are lost", topic=partition.topic, partition=partition.partition, lost=begin - offset
        )
        _lost.labels(partition.topic).inc(begin - offset)
        self._letters.publish(dead_letter(partition, offset, now_us(), None, sentence))
        self._lettered = True

    def _read_to(self, ends: dict[TopicPartition, int]) -> bool:
        return all(self._batches.position(partition) >= end for partition, end in ends.items())

    def _show_lag(self) -> None:
        lags: dict[str, int] = {}
        for partition, offset in self._committed.items():
            high: Any = self._reader.highwater(TopicPartition(*partition))
            lags[partition[0]] = lags.get(partition[0], 0) + max(0, (high or offset) - offset)
        for topic, lag in lags.items():
            _lag.labels(topic).set(lag)


class _Moves(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells a sink which partitions the group gives it and takes away."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._sink.taken(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._sink.given(assigned)


def _type(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    if len(headers) == 1 and headers[0][0] == "type":
        return headers[0][1]
    return next((value for name, value in headers if name == "type"), None)
