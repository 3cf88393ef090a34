CREATE TABLE IF NOT EXISTS `cexdex`.`instruments`
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
    `symbol` String CODEC(ZSTD(1)),
    `base_asset` LowCardinality(String) CODEC(ZSTD(1)),
    `quote_asset` LowCardinality(String) CODEC(ZSTD(1)),
    `inverted` Bool CODEC(ZSTD(1)),
    `alias_of` Nullable(String) CODEC(ZSTD(1)),
    `kind` LowCardinality(String) DEFAULT 'spot' CODEC(ZSTD(1)),
    `price_increment` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `size_increment` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `min_size` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `min_notional` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `max_size` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `multiplier` Float64 DEFAULT 1.0 CODEC(Gorilla, ZSTD(1)),
    `taker_fee_bps` Float64 CODEC(Gorilla, ZSTD(1)),
    `maker_fee_bps` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `fee_asset` LowCardinality(String) DEFAULT 'quote' CODEC(ZSTD(1)),
    `fee_source` String CODEC(ZSTD(1)),
    `fee_as_of` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `status` LowCardinality(String) CODEC(ZSTD(1)),
    `chain` Nullable(String) CODEC(ZSTD(1)),
    `pool` Nullable(String) CODEC(ZSTD(1)),
    `token0` Nullable(Tuple(address String, decimals Int64, verified Bool, flags Array(String))) CODEC(ZSTD(1)),
    `token1` Nullable(Tuple(address String, decimals Int64, verified Bool, flags Array(String))) CODEC(ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
ORDER BY instrument
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
