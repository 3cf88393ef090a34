CREATE TABLE IF NOT EXISTS `cexdex`.`consolidated`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `market` LowCardinality(String) CODEC(ZSTD(1)),
    `source_offset` Int64 CODEC(Delta, ZSTD(1)),
    `bid_usd` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `bid_size` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `bid_instrument` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `ask_usd` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `ask_size` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `ask_instrument` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `mid_usd` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `spread_bps` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `net_bid_usd` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `net_bid_instrument` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `net_ask_usd` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `net_ask_instrument` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `status` LowCardinality(String) CODEC(ZSTD(1)),
    `venues` Int64 CODEC(Delta, ZSTD(1)),
    `bid_depth_10bps` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `ask_depth_10bps` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (market, time)
TTL toDate(time) + toIntervalDay(90)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
