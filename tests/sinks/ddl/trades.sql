CREATE TABLE IF NOT EXISTS `cexdex`.`trades`
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
    `trade_id` String CODEC(ZSTD(1)),
    `price` Float64 CODEC(Gorilla, ZSTD(1)),
    `size` Float64 CODEC(Gorilla, ZSTD(1)),
    `taker_side` LowCardinality(String) CODEC(ZSTD(1)),
    `quote_size` Float64 CODEC(Gorilla, ZSTD(1)),
    `action` LowCardinality(String) DEFAULT 'new' CODEC(ZSTD(1)),
    `revision` Int64 CODEC(Delta, ZSTD(1)),
    `origin` LowCardinality(String) DEFAULT 'live' CODEC(ZSTD(1)),
    `block_number` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `block_hash` Nullable(String) CODEC(ZSTD(1)),
    `tx_hash` Nullable(String) CODEC(ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(intDiv(coalesce(event_time, received_at), 1000) * 1000, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (market, instrument, time, trade_id)
TTL toDate(time) + toIntervalDay(90)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
