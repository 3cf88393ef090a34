CREATE TABLE IF NOT EXISTS `cexdex`.`alerts`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `market` LowCardinality(String) CODEC(ZSTD(1)),
    `source_offset` Int64 CODEC(Delta, ZSTD(1)),
    `alert_id` String CODEC(ZSTD(1)),
    `rule` LowCardinality(String) CODEC(ZSTD(1)),
    `edge` LowCardinality(String) CODEC(ZSTD(1)),
    `size` LowCardinality(String) CODEC(ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `reason` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `value` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `threshold` Float64 CODEC(Gorilla, ZSTD(1)),
    `peak` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `started_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `deliver` Bool CODEC(ZSTD(1)),
    `context` Tuple(buy String, sell String, buy_price Nullable(Float64), sell_price Nullable(Float64), buy_vwap Nullable(Float64), sell_vwap Nullable(Float64), gross_bps Nullable(Float64), net_bps Nullable(Float64), net_converted_bps Nullable(Float64), conversion_bps Nullable(Float64), profit_usd Nullable(Float64), deviation_bps Nullable(Float64), buy_age_us Nullable(Int64), sell_age_us Nullable(Int64), rate_age_us Nullable(Int64), rate_state LowCardinality(String), spread_received_at Int64, spread_ordinal Int64) CODEC(ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
PARTITION BY toDate(time)
ORDER BY (market, time, alert_id, state)
TTL toDate(time) + toIntervalDay(90)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
