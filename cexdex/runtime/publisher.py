"""Records into Kafka, in order, each acknowledged; what the broker's own errors would lose is sent again.

Why it is not the bare producer (aiokafka 0.14): an idempotent producer that fails one batch refuses every later one
of that partition, its `stop()` never returns while the broker is away, and `send()` blocks or drops when its buffer
is full. So the queue is ours, one batch a partition is in flight, and any error on a record rebuilds the producer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidMessageError,
    InvalidTimestampError,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)
from prometheus_client import Counter, Gauge

from cexdex.config import Config
from cexdex.records.dead_letters import DeadLetter
from cexdex.records.record import Record, declarations, encode, stamp
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from cexdex.runtime.clock import now_us
from cexdex.runtime.lanes import Lane, Lost, Route, Slot, Waiting, slot_of
from cexdex.runtime.topics import partition_counts, topic_of, unreachable

log = structlog.get_logger(__name__)

OnFull = Literal["wait", "thin"]
BATCH_BYTES = 256 << 10
PAYLOAD_BYTES = 64 << 10
REFUSED = (
    CorruptRecordException,
    InvalidMessageError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)
"""Errors of a record, not of the producer: sent again it would be refused again."""

_waiting = Gauge("cexdex_publisher_waiting_records", "records not yet acknowledged by Kafka", ["publisher"])
_waiting_bytes = Gauge("cexdex_publisher_waiting_bytes", "their bytes", ["publisher"])
_limit = Gauge("cexdex_publisher_limit_records", "how many may wait before the queue is full", ["publisher"])
_rebuilt = Counter("cexdex_publisher_rebuilt", "producers replaced after an error", ["publisher"])
_dropped = Counter("cexdex_publisher_dropped", "records dropped by a full queue", ["publisher", "type"])
_refused = Counter("cexdex_publisher_refused", "records Kafka refused, now dead letters", ["publisher"])


class Publisher:
    """Publishes records of every declared type to their topics.

    on_full="wait": nothing is ever dropped, the caller awaits `room()`. on_full="thin" (ingest): a full queue keeps
    the newest live quote and book of each instrument, drops live trades of exchanges and counts them for
    `take_gaps()`; records that are not live, and all of a chain, are never dropped.
    """

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        on_full: OnFull = "wait",
        limit: int = 20_000,
        limit_bytes: int = 64 << 20,
    ) -> None:
        self._config = config
        self._name = name
        self._thins = on_full == "thin"
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._records = 0
        self._bytes = 0
        self._routes: dict[type[Record], Route] = {}
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._newest: dict[Slot, Waiting] = {}
        self._since_thinned = 0
        self._lost: dict[str, Lost] = {}
        self._producer: AIOKafkaProducer | None = None
        self._failure: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()

    async def start(self, *, within_s: float = 30.0) -> None:
        """Connects and learns the topics' partitions. Raises KafkaUnavailableError in one sentence."""
        counts = await partition_counts(self._config)
        for declaration in declarations().values():
            topic = topic_of(self._config, declaration)
            lanes = [self._lane(topic, partition) for partition in range(counts[topic])]
            self._routes[declaration.struct] = Route(
                lanes, declaration.type.encode(), declaration.key, declaration.key_of
            )
        try:
            self._producer = await asyncio.wait_for(self._connect(), within_s)
        except TimeoutError as error:
            raise unreachable(self._config) from error
        _waiting.labels(self._name).set_function(lambda: self._records)
        _waiting_bytes.labels(self._name).set_function(lambda: self._bytes)
        _limit.labels(self._name).set(self._limit)
        self._task = asyncio.create_task(self._run(), name=f"publisher {self._name}")

    def publish(self, record: Record) -> None:
        """Stamps, encodes and queues a record; it leaves with all that this turn of the event loop brings.

        Records of one partition keep their order. Raises KeyError for a type that is not declared.
        """
        stamp(record, now_us())
        route = self._routes[type(record)]
        key, lane = route.of(record)
        slot = None
        if self._thins:
            slot = slot_of(record)
            if self.full and not self._admits(record, slot):
                return
        entry = Waiting(key, encode(record), route.header, slot, record.received_at)
        if slot is not None:
            self._newest[slot] = entry
            self._since_thinned += 1
        lane.waiting.append(entry)
        lane.appended += 1
        self._records += 1
        self._bytes += len(entry.value)
        self._wake.set()

    @property
    def full(self) -> bool:
        """Whether the queue holds as much as it may."""
        return self._records >= self._limit or self._bytes >= self._limit_bytes

    async def room(self) -> None:
        """Returns once the queue is not full."""
        while self.full:
            await self._progress.wait()

    async def flush(self) -> None:
        """Returns once everything published so far is acknowledged (or became a dead letter)."""
        goals = [(lane, lane.appended) for lane in self._lanes.values() if lane.settled < lane.appended]
        while any(lane.settled < goal for lane, goal in goals):
            await self._progress.wait()

    def take_gaps(self) -> list[VenueStatus]:
        """One gap for each instrument whose trades a full queue dropped, once there is room again."""
        if not self._lost or self.full:
            return []
        lost, self._lost = self._lost, {}
        return [gap.status() for gap in lost.values()]

    async def stop(self, *, within_s: float = 10.0) -> int:
        """Flushes for at most `within_s` and closes; answers how many records Kafka has not acknowledged."""
        try:
            if self._task is not None:
                await asyncio.wait_for(self.flush(), within_s)
        except TimeoutError:
            log.error(
                "records were not acknowledged before the end", publisher=self._name, records=self._records
            )
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._producer is not None:
            await end_producer(self._producer, within_s=1.0 if self._records else 5.0)
            self._producer = None
        return self._records

    async def _run(self) -> None:
        while True:
            try:
                if self._producer is None:
                    self._producer = await self._connect()
                await self._pump(self._producer)
            except Exception as error:
                log.warning("the producer is rebuilt", publisher=self._name, error=repr(error))
                _rebuilt.labels(self._name).inc()
                await self._rebuild(error)

    async def _connect(self) -> AIOKafkaProducer:
        pause = 0.1
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._config.kafka.servers,
                enable_idempotence=True,
                acks="all",
                compression_type="lz4",
                linger_ms=0,
                max_batch_size=BATCH_BYTES,
                request_timeout_ms=40_000,
            )
            try:
                await producer.start()
                # So that no batch waits for the metadata of its topic.
                for topic in {topic for topic, _ in self._lanes}:
                    await producer.partitions_for(topic)
                return producer
            except KafkaConnectionError:
                await end_producer(producer)
            except BaseException:
                await end_producer(producer)
                raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    async def _pump(self, producer: AIOKafkaProducer) -> None:
        """Keeps one batch in flight for each partition that has records, until one fails."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._failure is not None:
                raise self._failure
            for lane in self._lanes.values():
                if lane.waiting and not lane.flight:
                    await self._send(producer, lane)

    async def _send(self, producer: AIOKafkaProducer, lane: Lane) -> None:
        batch = producer.create_batch()
        flight = lane.take(batch, self._newest)
        if not batch.record_count():
            self._settle(lane)
            return
        future = await producer.send_batch(batch, lane.topic, partition=lane.partition)
        future.add_done_callback(partial(self._answered, lane, flight))

    def _answered(self, lane: Lane, flight: list[Waiting], future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if lane.flight is not flight:
            return  # An answer of a producer that was given up; its records went out again.
        if error is None:
            self._settle(lane)
        else:
            lane.error = error
            self._failure = self._failure or error
        self._wake.set()

    def _settle(self, lane: Lane) -> None:
        for entry in lane.flight:
            if not entry.dropped:
                self._records -= 1
                self._bytes -= len(entry.value)
        lane.settled += len(lane.flight)
        lane.flight = []
        self._advanced()

    def _advanced(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    async def _rebuild(self, error: Exception) -> None:
        producer, self._producer, self._failure = self._producer, None, None
        if producer is not None:
            await end_producer(producer, within_s=2.0)
        for lane in list(self._lanes.values()):
            cause, lane.error = lane.error, None
            self._failure = None
            if isinstance(cause, REFUSED):
                if len(lane.flight) == 1:
                    self._bury(lane, lane.flight[0], cause)
                    continue
                # One of these records is to blame; each is sent alone to learn which.
                lane.alone = len(lane.flight)
            lane.give_back()
        if not isinstance(error, REFUSED):
            await asyncio.sleep(0.2)

    def _bury(self, lane: Lane, entry: Waiting, error: BaseException) -> None:
        self._settle(lane)
        _refused.labels(self._name).inc()
        log.error("Kafka refused a record", topic=lane.topic, error=repr(error), bytes=len(entry.value))
        if entry.header == b"dead_letters":
            return
        self.publish(
            DeadLetter(
                received_at=entry.received_at,
                origin=f"{lane.topic}/{lane.partition}",
                topic=lane.topic,
                partition=lane.partition,
                error=f"Kafka refused it: {type(error).__name__}",
                payload=base64.b64encode(entry.value[:PAYLOAD_BYTES]).decode(),
                length=len(entry.value),
                sha256=hashlib.sha256(entry.value).hexdigest(),
            )
        )

    def _lane(self, topic: str, partition: int) -> Lane:
        return self._lanes.setdefault((topic, partition), Lane(topic, partition))

    def _admits(self, record: Record, slot: Slot | None) -> bool:
        """Whether a full queue takes this record; makes way for it where it replaces an older one."""
        if self._since_thinned * 8 >= self._limit:
            self._thin()
            if not self.full:
                return True
        if slot is not None:
            if (older := self._newest.get(slot)) is not None:
                self._drop(older)
            return True
        if isinstance(record, Trade) and record.origin == "live" and record.block_hash is None:
            self._lost.setdefault(record.instrument, Lost(record)).add(record)
            _dropped.labels(self._name, "trade").inc()
            return False
        return True

    def _thin(self) -> None:
        self._since_thinned = 0
        for lane in self._lanes.values():
            for entry in lane.waiting:
                if entry.slot is not None and self._newest.get(entry.slot) is not entry:
                    self._drop(entry)

    def _drop(self, entry: Waiting) -> None:
        if not entry.dropped:
            self._records -= 1
            self._bytes -= len(entry.value)
            _dropped.labels(self._name, entry.header.decode()).inc()
            entry.dropped = True
            entry.value = b""


async def end_producer(producer: AIOKafkaProducer, *, within_s: float = 5.0) -> None:
    """Closes a producer in bounded time, whatever the broker does."""
    try:
        await asyncio.wait_for(producer.stop(), within_s)
    except Exception:
        # stop() never returns while the broker is away: sockets first, then the sender, which waits for them.
        for close in (producer.client.close, producer._sender.close):
            with suppress(Exception):
                await asyncio.wait_for(close(), 2.0)
