CREATE TABLE IF NOT EXISTS `cexdex`.`dead_letters`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `origin` LowCardinality(String) CODEC(ZSTD(1)),
    `venue` LowCardinality(String) CODEC(ZSTD(1)),
    `connection` String CODEC(ZSTD(1)),
    `topic` LowCardinality(String) CODEC(ZSTD(1)),
    `partition` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `offset` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `error` String CODEC(ZSTD(1)),
    `payload` String CODEC(ZSTD(1)),
    `length` Int64 CODEC(Delta, ZSTD(1)),
    `sha256` String CODEC(ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (time, origin, sha256)
TTL toDate(time) + toIntervalDay(14)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
