"""How far each stage's group is behind the ends of the topics it reads."""

from __future__ import annotations

from cexdex.config import Config
from cexdex.records.record import declarations
from cexdex.runtime.kafka import (
    TopicPartition,
    committed,
    consumer,
    end_offsets,
    partition_counts,
    stop_consumer,
    topic_of,
)


async def sink_lag(config: Config) -> dict[str, int]:
    """Records of each topic that ClickHouse does not have yet."""
    from sinks.runner import group

    topics = {topic_of(config, declaration) for declaration in declarations().values()}
    return await group_lag(config, group(config), topics)


async def group_lag(config: Config, group: str, topics: set[str]) -> dict[str, int]:
    """Records after a group's commit, by topic; all of them where it has none."""
    counts = await partition_counts(config)
    partitions = [
        TopicPartition(topic, number) for topic in sorted(topics) for number in range(counts[topic])
    ]
    reader = consumer(config.kafka.servers, group=group)
    await reader.start()
    try:
        reader.assign(partitions)
        ends = await end_offsets(reader, partitions)
        commits = await committed(reader, partitions)
    finally:
        await stop_consumer(reader)
    lags: dict[str, int] = {}
    for partition in partitions:
        behind = ends[partition] - (commits[partition] or 0)
        lags[partition.topic] = lags.get(partition.topic, 0) + max(0, behind)
    return lags
