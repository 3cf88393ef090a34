"""Where in the log a reader begins: at its commit, or as far before it as input still matters (DESIGN §10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from cexdex.config import Config
from cexdex.runtime import kafka

log = structlog.get_logger(__name__)

SLACK_US = 1_000_000
"""How far received_at may lie ahead of the broker's own time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """start: the first offset to read; commit: the first one whose outcome was not yet acknowledged."""

    start: int
    commit: int
    at: int | None
    """received_at of the last record before the commit; None when nothing was ever processed."""


class TopicMadeAnewError(Exception):
    """A commit lies beyond the topic's end; one sentence says what to do."""


async def place_of(
    committing: AIOKafkaConsumer, reader: AIOKafkaConsumer, tp: TopicPartition, back_us: int
) -> Place:
    """Where the commit stands, what time it was there, and where the `back_us` before it begin.

    committing: the group's consumer; reader: one of its own, whose assignment is changed. Raises TopicMadeAnewError.
    """
    begin = (await kafka.beginning_offsets(committing, [tp]))[tp]
    end = (await kafka.end_offsets(committing, [tp]))[tp]
    commit = (await kafka.committed(committing, [tp]))[tp]
    if commit is None or commit <= begin:
        if commit is not None and commit < begin:
            lost = begin - commit
            log.error("records were deleted before they were processed", partition=tp.partition, lost=lost)
        return Place(start=begin, commit=begin, at=None)
    if commit > end:
        raise TopicMadeAnewError(
            f"{tp.topic} partition {tp.partition} ends at {end} and was processed to {commit}: the topic was made"
            " anew; make the derived topics anew too (`cexdex topics --delete`) and start again"
        )
    at = await received_at(reader, tp, commit - 1)
    start = await first_since(reader, tp, at - back_us - SLACK_US)
    return Place(start=max(begin, commit if start is None else min(commit, start)), commit=commit, at=at)


async def received_at(reader: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> int:
    """When the record at an offset (or the next there is) was received; of no record, when the broker took it."""
    reader.assign([tp])
    reader.seek(tp, offset)
    message = await asyncio.wait_for(reader.getone(tp), 30)
    taken: int = message.timestamp * 1000
    try:
        received: int = msgspec.json.decode(message.value, type=_Received).received_at
    except (msgspec.MsgspecError, ValueError):
        return taken
    return min(received, taken + SLACK_US)


async def first_since(reader: AIOKafkaConsumer, tp: TopicPartition, since: int) -> int | None:
    """The first offset that the broker took at or after a time; None when there is none."""
    found = (await reader.offsets_for_times({tp: max(0, since // 1000)}))[tp]
    return None if found is None else int(found.offset)


async def read_to_end(reader: AIOKafkaConsumer, tp: TopicPartition, begin: int) -> AsyncIterator[Any]:
    """Every message from `begin` to the end that the topic has now."""
    end = (await kafka.end_offsets(reader, [tp]))[tp]
    if begin >= end:
        return
    reader.assign([tp])
    reader.seek(tp, begin)
    # The last offsets of a compacted topic are never removed, so that the position reaches its end.
    while await reader.position(tp) < end:
        for messages in (await reader.getmany(tp, timeout_ms=1000)).values():
            for message in messages:
                if message.offset < end:
                    yield message


async def read_whole(reader: AIOKafkaConsumer, tp: TopicPartition) -> AsyncIterator[Any]:
    """Every message that the topic has now."""
    async for message in read_to_end(reader, tp, (await kafka.beginning_offsets(reader, [tp]))[tp]):
        yield message


@asynccontextmanager
async def opened(config: Config, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer; its group's name begins with the topics' prefix, so that replays never share commits."""
    name = None if group is None else f"{config.topics.prefix}{group}"
    reader = kafka.consumer(config.kafka.servers, group=name)
    try:
        await reader.start()
        yield reader
    finally:
        await kafka.stop_consumer(reader)


class _Received(msgspec.Struct):
    received_at: int
