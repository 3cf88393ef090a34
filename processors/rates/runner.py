"""Publishes the rates from `reference_quotes` alone; the owner of partition 0 of `market` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from cexdex.config import Config
from cexdex.records.record import Record, declaration_of, decoder
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.runtime import kafka
from cexdex.runtime.places import opened, place_of
from cexdex.runtime.publisher import Publisher
from processors.rates import LOOKBACK_US, RatesStream

log = structlog.get_logger(__name__)

COMMIT_US = 500_000


async def publish_rates(
    config: Config,
    publisher: Publisher,
    publish: Callable[[Iterable[Record]], None],
    *,
    fixed_rates: Mapping[str, float],
    until_end: bool,
    stop: asyncio.Event,
    clock: Callable[[], int],
    lag_us: int,
) -> None:
    """Until `stop` is set, or with until_end all that is there now. At the end of the topic its time follows the
    wall clock at `lag_us`."""
    tp = TopicPartition(kafka.topic_of(config, declaration_of(ReferenceQuote)), 0)
    decode = decoder(ReferenceQuote).decode
    async with opened(config, "rates") as reader, opened(config) as looking:
        reader.assign([tp])
        end = (await kafka.end_offsets(reader, [tp]))[tp]
        place = await place_of(reader, looking, tp, LOOKBACK_US)
        stream = RatesStream(config, aloud_from=place.commit, fixed_rates=fixed_rates)
        position, committed, commit_at = place.start, place.commit, 0
        reader.seek(tp, position)
        while not stop.is_set() and not (until_end and position >= end):
            batches = await reader.getmany(timeout_ms=100)
            for message in batches.get(tp, ()):
                position = message.offset + 1
                try:
                    record = decode(message.value)
                except (msgspec.MsgspecError, ValueError):
                    continue  # The owner of partition 0 says what is wrong with it where it reads it.
                publish(stream.on(record, message.offset))
            if not batches and not until_end and position >= (reader.highwater(tp) or 0):
                publish(stream.advance(clock() - lag_us))
            if position > committed and (now := clock()) >= commit_at:
                committed, commit_at = position, now + COMMIT_US
                await _commit(reader, publisher, tp, position)
            await publisher.room()
        if position > committed:
            await _commit(reader, publisher, tp, position)


async def _commit(reader: AIOKafkaConsumer, publisher: Publisher, tp: TopicPartition, position: int) -> None:
    await publisher.flush()
    try:
        await kafka.commit(reader, {tp: position})
    except KafkaError as error:
        log.warning("the commit of rates is tried again", error=repr(error))
