CREATE TABLE IF NOT EXISTS `cexdex`.`alert_deliveries`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `alert_id` String CODEC(ZSTD(1)),
    `webhook_id` String CODEC(ZSTD(1)),
    `target` LowCardinality(String) CODEC(ZSTD(1)),
    `attempt` Int64 CODEC(Delta, ZSTD(1)),
    `rule` LowCardinality(String) CODEC(ZSTD(1)),
    `edge` LowCardinality(String) CODEC(ZSTD(1)),
    `size` LowCardinality(String) CODEC(ZSTD(1)),
    `status` LowCardinality(String) CODEC(ZSTD(1)),
    `error` Nullable(String) CODEC(ZSTD(1)),
    `sent_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `next_at` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (time, webhook_id, target, attempt)
TTL toDate(time) + toIntervalDay(90)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
