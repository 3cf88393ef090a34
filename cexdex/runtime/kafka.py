"""Kafka as every stage uses it: topics by name, records published, records read from where a commit stands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from cexdex.domain.murmur2 import partition_of
from cexdex.runtime.publisher import Publisher, end_producer
from cexdex.runtime.topics import (
    KafkaUnavailableError,
    compare_topics,
    create_topics,
    delete_topics,
    partition_counts,
    topic_name,
    topic_of,
    topics,
)

__all__ = [
    "KafkaUnavailableError",
    "Publisher",
    "TopicPartition",
    "beginning_offsets",
    "commit",
    "committed",
    "compare_topics",
    "consumer",
    "create_topics",
    "delete_topics",
    "end_offsets",
    "end_producer",
    "partition_counts",
    "partition_of",
    "stop_consumer",
    "topic_name",
    "topic_of",
    "topics",
]


def consumer(servers: str, *, group: str | None = None, max_wait_ms: int = 100) -> AIOKafkaConsumer:
    """A consumer that is not started. It commits nothing by itself and never jumps: a position outside the log raises
    OffsetOutOfRangeError. Assign partitions, `seek` each by its offset (never `seek_to_beginning`: in aiokafka it may
    leave the position at the end), read with `getmany`, and end it with `stop_consumer`.
    """
    return AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        # A partition that was not part of a waiting fetch is read only after it: so long at most.
        fetch_max_wait_ms=max_wait_ms,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=4 << 20,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=1_000,
    )


async def stop_consumer(reader: AIOKafkaConsumer, *, within_s: float = 5.0) -> None:
    """Closes a consumer in bounded time. aiokafka's own stop() raises CancelledError right after assign(), which
    looks as if the caller had been cancelled; a real cancellation of the caller passes."""
    stopping = asyncio.ensure_future(reader.stop())
    done, _ = await asyncio.wait([stopping], timeout=within_s)
    if not done:
        stopping.cancel()
    with suppress(Exception, asyncio.CancelledError):
        if done:
            stopping.result()


async def committed(
    reader: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """The group's commit of each partition: the offset of the next record to read; None where it has none."""
    return {partition: await reader.committed(partition) for partition in partitions}


async def commit(reader: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Commits the offset of the next record to read of each partition."""
    if offsets:
        await reader.commit({tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()})


async def beginning_offsets(
    reader: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """The first offset that each partition still has."""
    return dict(await reader.beginning_offsets(list(partitions)))


async def end_offsets(
    reader: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offset that the next record of each partition will have."""
    return dict(await reader.end_offsets(list(partitions)))
