"""What was published before this process began."""

from __future__ import annotations

from cexdex.config import Config
from cexdex.records.record import decoder
from cexdex.records.trade import Trade
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import (
    TopicPartition,
    consumer,
    end_offsets,
    partition_counts,
    stop_consumer,
    topic_name,
)

SOUGHT_MS = 600_000
"""How far back the last trades are looked for."""
READ_AT_ONCE = 2_000


async def last_trades(config: Config) -> dict[str, Trade]:
    """The trade with the highest id of each instrument in the last ten minutes of `market`."""
    topic = topic_name(config.topics.prefix, "market")
    found: dict[str, Trade] = {}
    trades = decoder(Trade)
    partitions = [TopicPartition(topic, number) for number in range((await partition_counts(config))[topic])]
    reader = consumer(config.kafka.servers)
    await reader.start()
    try:
        reader.assign(partitions)
        ends = await end_offsets(reader, partitions)
        since = now_us() // 1000 - SOUGHT_MS
        starts = await reader.offsets_for_times(dict.fromkeys(partitions, since))
        waiting = {}
        for partition in partitions:
            start = starts.get(partition)
            if start is not None and start.offset < ends[partition]:
                waiting[partition] = ends[partition]
                reader.seek(partition, start.offset)
            else:
                reader.seek(partition, ends[partition])
        while waiting:
            for partition, records in (
                await reader.getmany(timeout_ms=1000, max_records=READ_AT_ONCE)
            ).items():
                for record in records:
                    if dict(record.headers).get("type") == b"trade":
                        trade: Trade = trades.decode(record.value)
                        if trade.action == "new" and trade.block_number is None:
                            last = found.get(trade.instrument)
                            if last is None or int(trade.trade_id) > int(last.trade_id):
                                found[trade.instrument] = trade
                if records and records[-1].offset + 1 >= waiting.get(partition, 0):
                    waiting.pop(partition, None)
    finally:
        await stop_consumer(reader)
    return found
