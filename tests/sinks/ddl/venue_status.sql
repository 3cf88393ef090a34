CREATE TABLE IF NOT EXISTS `cexdex`.`venue_status`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `market` LowCardinality(String) CODEC(ZSTD(1)),
    `venue` LowCardinality(String) CODEC(ZSTD(1)),
    `instrument` LowCardinality(String) CODEC(ZSTD(1)),
    `kind` LowCardinality(String) CODEC(ZSTD(1)),
    `started_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `ended_at` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `reason` String CODEC(ZSTD(1)),
    `lost` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(started_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (market, time, venue, instrument, kind)
TTL toDate(time) + toIntervalDay(90)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
