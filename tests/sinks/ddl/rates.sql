CREATE TABLE IF NOT EXISTS `cexdex`.`rates`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `asset` LowCardinality(String) CODEC(ZSTD(1)),
    `rate` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `bid` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `ask` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `conversion_bps` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `path` Array(String) CODEC(ZSTD(1)),
    `sources` Array(String) CODEC(ZSTD(1)),
    `age_us` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `source_offset` Int64 CODEC(Delta, ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (time, asset)
TTL toDate(time) + toIntervalDay(90)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
