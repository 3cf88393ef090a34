"""The process stage: `market` in, everything derived out, a commit once all of it is acknowledged (DESIGN §10)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from prometheus_client import Gauge

from cexdex.config import Config
from cexdex.records.instruments import Instrument
from cexdex.records.record import Record, declaration_of, decoder
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.rules import Rule
from cexdex.runtime import kafka
from cexdex.runtime.clock import now_us
from cexdex.runtime.places import (
    SLACK_US,
    Place,
    TopicMadeAnewError,
    first_since,
    opened,
    place_of,
    read_to_end,
)
from cexdex.runtime.publisher import Publisher
from processors.rates.runner import publish_rates
from processors.start.runner import said_before, say_rules
from processors.worker import Partition, dead_letter, lookback_us

log = structlog.get_logger(__name__)

CLOCK_LAG_US = 3_000_000
"""At a partition's end stream time follows the wall clock by so much."""
COMMIT_S = 0.5
REFERENCES_BEFORE_US = 70_000_000
SMALL: tuple[type[Record], ...] = (Instrument, ReferenceQuote, Rule)

_counted = Gauge("cexdex_process_counted", "records dropped or late, by why", ["partition", "why"])
_stream_time = Gauge("cexdex_process_stream_time_seconds", "stream time of a partition", ["partition"])


class ProcessError(Exception):
    """The stage cannot go on; one sentence says why and what to do."""


@dataclass(slots=True)
class Summary:
    """What a run did."""

    records: int = 0
    published: Counter[str] = field(default_factory=Counter)
    """By record type."""
    counts: Counter[str] = field(default_factory=Counter)
    """Records dropped, late or lost, by why."""


async def run(
    config: Config,
    *,
    rates: Mapping[str, float] | None = None,
    until_end: bool = False,
    group: bool = False,
    stop: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
    clock: Callable[[], int] = now_us,
) -> Summary:
    """Processes until `stop` is set; with until_end (a replay) until everything now in `market` is processed.

    rates: USD per unit of assets whose sources are not asked. group: share the partitions with other machines;
    otherwise all are this process's own, which the data folder's lock makes sure of. ready is set once every owned
    partition stands at its commit's place and is being read. Raises ProcessError and KafkaUnavailableError.
    """
    stage = _Stage(config, rates or {}, until_end, stop or asyncio.Event(), ready or asyncio.Event(), clock)
    try:
        return await stage.run(group=group)
    except TopicMadeAnewError as error:
        raise ProcessError(str(error)) from error


class _Stage:
    def __init__(
        self,
        config: Config,
        rates: Mapping[str, float],
        until_end: bool,
        stop: asyncio.Event,
        ready: asyncio.Event,
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._rates = rates
        self._until_end = until_end
        self._stop = stop
        self._ready = ready
        self._clock = clock
        self._lookback_us = lookback_us(config)
        self._topic = self._name("market")
        self._publisher = Publisher(config, name="process")
        self._partitions: dict[TopicPartition, Partition] = {}
        self._positions: dict[TopicPartition, int] = {}
        """The next offset of each partition; all before it is processed and handed to the publisher."""
        self._small_from: dict[TopicPartition, dict[TopicPartition, int]] = {}
        """Of each partition of `market`: from where on the small topics' tails are new to it."""
        self._rates_task: asyncio.Task[None] | None = None
        self._summary = Summary()

    async def run(self, *, group: bool) -> Summary:
        await self._publisher.start()
        unacknowledged = 0
        try:
            async with opened(self._config, "process") as market, opened(self._config) as tail:
                self._market = market
                self._partitions_count = (await kafka.partition_counts(self._config))[self._topic]
                await self._open_tail(tail)
                if group:
                    market.subscribe([self._topic], listener=_Listener(self))
                else:
                    owned = [TopicPartition(self._topic, number) for number in range(self._partitions_count)]
                    market.assign(owned)
                    await self.take(owned)
                await self._work(tail)
                if self._rates_task is not None:
                    await self._rates_task
        finally:
            if self._rates_task is not None:
                self._rates_task.cancel()
            unacknowledged = await self._publisher.stop()
        if unacknowledged:
            raise ProcessError(
                f"{unacknowledged} records were not acknowledged by Kafka; they are made again"
            )
        self._count()
        return self._summary

    async def take(self, owned: Iterable[TopicPartition]) -> None:
        """Makes partitions ready: small topics, own last records, and the place in the log to begin at."""
        owned = sorted(owned)
        if not owned:
            return
        ends = await kafka.end_offsets(self._market, owned)
        async with opened(self._config) as reader:
            places = {tp: await place_of(self._market, reader, tp, self._lookback_us) for tp in owned}
            if owned[0].partition == 0:
                filled = [tp for tp in owned if ends[tp] > places[tp].start]
                before = filled if self._until_end else None
                await say_rules(self._config, reader, self._publish, self._clock(), before=before)
                await self._publisher.flush()
            own = await said_before(self._config, reader, places, self._partitions_count)
            for tp in owned:
                self._partitions[tp] = Partition(
                    tp.partition,
                    self._partitions_count,
                    self._config,
                    aloud_from=places[tp].commit,
                    own=own[tp.partition],
                    fixed_rates=self._rates,
                )
            await self._read_small(reader, owned, places)
        for tp in owned:
            self._market.seek(tp, places[tp].start)
            self._positions[tp] = places[tp].start
        if owned[0].partition == 0 and self._rates_task is None:
            self._rates_task = asyncio.create_task(self._publish_rates(), name="rates")
        self._ends = ends
        self._ready.set()
        log.info(
            "processing begins",
            partitions=len(owned),
            behind=sum(ends[tp] - places[tp].commit for tp in owned),
            again=sum(places[tp].commit - places[tp].start for tp in owned),
        )

    def _publish_rates(self) -> Coroutine[None, None, None]:
        return publish_rates(
            self._config,
            self._publisher,
            self._publish,
            fixed_rates=self._rates,
            until_end=self._until_end,
            stop=self._stop,
            clock=self._clock,
            lag_us=CLOCK_LAG_US,
        )

    async def leave(self, revoked: Iterable[TopicPartition]) -> None:
        """Commits what is done and lets go of partitions that another machine takes."""
        revoked = list(revoked)
        await self._commit()
        for tp in revoked:
            self._partitions.pop(tp, None)
            self._positions.pop(tp, None)
        if TopicPartition(self._topic, 0) in revoked and self._rates_task is not None:
            self._rates_task.cancel()
            self._rates_task = None

    async def _work(self, tail: AIOKafkaConsumer) -> None:
        helpers = [asyncio.create_task(self._commit_often(), name="commit")]
        if not self._until_end:
            helpers.append(asyncio.create_task(self._follow_small(tail), name="small topics"))
        work = asyncio.create_task(self._process(), name="process")
        try:
            watched: set[asyncio.Task[None]] = {work, *helpers}
            while not work.done():
                if self._rates_task is not None and not (self._until_end and self._rates_task.done()):
                    watched.add(self._rates_task)
                done, _ = await asyncio.wait(watched, timeout=1, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if not task.cancelled():
                        task.result()
                watched = {task for task in watched if not task.done()}
        finally:
            for task in (work, *helpers):
                task.cancel()
            await asyncio.gather(work, *helpers, return_exceptions=True)
        await self._commit()

    async def _process(self) -> None:
        while not self._stop.is_set():
            try:
                batches = await self._market.getmany(timeout_ms=20, max_records=1000)
            except OffsetOutOfRangeError as error:
                await self._skip_lost(error)
                continue
            for tp, messages in batches.items():
                partition = self._partitions.get(tp)
                if partition is None:
                    continue
                for message in messages:
                    self._publish(partition.receive(message.value, message.offset, message.timestamp * 1000))
                    self._positions[tp] = message.offset + 1
                self._summary.records += len(messages)
                await self._publisher.room()
            if self._until_end:
                if all(self._positions[tp] >= end for tp, end in self._ends.items()):
                    return
            else:
                self._follow_clock(batches)
            await asyncio.sleep(0)

    def _follow_clock(self, batches: Mapping[TopicPartition, Any]) -> None:
        now = self._clock() - CLOCK_LAG_US
        for tp, partition in self._partitions.items():
            end = self._market.highwater(tp)
            if tp not in batches and end is not None and self._positions.get(tp, -1) >= end:
                self._publish(partition.advance(now))

    def _publish(self, outputs: Iterable[Record]) -> None:
        published = self._summary.published
        for output in outputs:
            self._publisher.publish(output)
            published[str(type(output).__struct_config__.tag)] += 1

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit()
            self._count()

    async def _commit(self) -> None:
        """First every output, then the offsets that stood before the waiting began."""
        positions = {
            tp: offset
            for tp, offset in self._positions.items()
            if tp in self._partitions and offset > self._partitions[tp].aloud_from
        }
        await self._publisher.flush()
        try:
            await kafka.commit(self._market, positions)
        except KafkaError as error:
            log.warning("the commit is tried again", error=repr(error))

    def _count(self) -> None:
        counts: Counter[str] = Counter()
        for tp, partition in self._partitions.items():
            counted = partition.counted()
            counts += counted
            for why, count in counted.items():
                _counted.labels(tp.partition, why).set(count)
            if partition.now is not None:
                _stream_time.labels(tp.partition).set(partition.now / 1e6)
        self._summary.counts = counts

    async def _read_small(
        self, reader: AIOKafkaConsumer, owned: list[TopicPartition], places: Mapping[TopicPartition, Place]
    ) -> None:
        """Instruments and rules whole, the others from 70 s before the lookback, to their present end."""
        times = [place.at for place in places.values()]
        since = (
            0 if None in times else min(at for at in times if at is not None) - self._lookback_us - SLACK_US
        )
        starts: dict[TopicPartition, dict[TopicPartition, int]] = {tp: {} for tp in owned}
        for struct in SMALL:
            tp = TopicPartition(self._name_of(struct), 0)
            begin = (await kafka.beginning_offsets(reader, [tp]))[tp]
            if struct is ReferenceQuote and since > 0:
                first = await first_since(reader, tp, since - REFERENCES_BEFORE_US)
                begin = first if first is not None else (await kafka.end_offsets(reader, [tp]))[tp]
            end = begin
            async for message in read_to_end(reader, tp, begin):
                end = message.offset + 1
                self._know(message, owned)
            for one in starts.values():
                one[tp] = end
        self._small_from |= starts

    async def _open_tail(self, tail: AIOKafkaConsumer) -> None:
        tps = [TopicPartition(self._name_of(struct), 0) for struct in SMALL]
        tail.assign(tps)
        for tp, end in (await kafka.end_offsets(tail, tps)).items():
            tail.seek(tp, end)

    async def _follow_small(self, tail: AIOKafkaConsumer) -> None:
        while True:
            batches = await tail.getmany(timeout_ms=100)
            for tp, messages in batches.items():
                for message in messages:
                    self._know(
                        message,
                        [
                            owned
                            for owned in self._partitions
                            if message.offset >= self._small_from.get(owned, {}).get(tp, 0)
                        ],
                    )
            await self._publisher.room()

    def _know(self, message: Any, owned: Iterable[TopicPartition]) -> None:
        plain = _plain[message.topic.removeprefix(self._config.topics.prefix).rpartition(".")[0]]
        try:
            record = decoder(plain).decode(message.value)
        except (msgspec.MsgspecError, ValueError) as error:
            if TopicPartition(self._topic, 0) in owned:
                self._publish(
                    [
                        dead_letter(
                            message.topic,
                            message.partition,
                            message.offset,
                            message.timestamp * 1000,
                            message.value,
                            str(error),
                        )
                    ]
                )
            return
        for tp in owned:
            topic = str(plain.__struct_config__.tag)
            self._publish(self._partitions[tp].known(record, topic, message.offset))

    async def _skip_lost(self, error: OffsetOutOfRangeError) -> None:
        """Retention overtook us: what is gone is counted and said, never passed over in silence."""
        tps = list(self._partitions)
        begins = await kafka.beginning_offsets(self._market, tps)
        for tp in tps:
            lost = begins[tp] - self._positions[tp]
            if lost > 0:
                log.error(
                    "records were deleted before they were processed", partition=tp.partition, lost=lost
                )
                self._partitions[tp].counts["lost"] += lost
                self._positions[tp] = begins[tp]
                self._market.seek(tp, begins[tp])

    def _name(self, plain: str) -> str:
        return kafka.topic_name(self._config.topics.prefix, plain)

    def _name_of(self, struct: type[Record]) -> str:
        return kafka.topic_of(self._config, declaration_of(struct))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, stage: _Stage) -> None:
        self._stage = stage

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._stage.leave(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._stage.take(assigned)


_plain: dict[str, type[Record]] = {declaration_of(struct).topic: struct for struct in SMALL}
