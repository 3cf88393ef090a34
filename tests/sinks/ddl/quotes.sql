CREATE TABLE IF NOT EXISTS `cexdex`.`quotes`
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
    `base_asset` LowCardinality(String) CODEC(ZSTD(1)),
    `quote_asset` LowCardinality(String) CODEC(ZSTD(1)),
    `bid` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `bid_size` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `ask` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `ask_size` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `session` Int64 CODEC(Delta, ZSTD(1)),
    `ordinal` Int64 CODEC(Delta, ZSTD(1)),
    `sequence` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `source` LowCardinality(String) CODEC(ZSTD(1)),
    `changed_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `verified_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `reason` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `pool_price` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `fee_pips` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `block_number` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `block_hash` Nullable(String) CODEC(ZSTD(1)),
    `pool_block_hash` Nullable(String) CODEC(ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (market, time, instrument, session, ordinal)
TTL toDate(time) + toIntervalDay(14)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
