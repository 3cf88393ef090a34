CREATE TABLE IF NOT EXISTS `cexdex`.`rules`
(
    `_partition` UInt32 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(DoubleDelta, ZSTD(1)),
    `type` LowCardinality(String) CODEC(ZSTD(1)),
    `event_time` Nullable(Int64) CODEC(DoubleDelta, ZSTD(1)),
    `received_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `published_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `rule` LowCardinality(String) CODEC(ZSTD(1)),
    `markets` Array(String) CODEC(ZSTD(1)),
    `venues` Array(String) CODEC(ZSTD(1)),
    `notional_usd` Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
    `basis` LowCardinality(String) CODEC(ZSTD(1)),
    `converted` Bool CODEC(ZSTD(1)),
    `enter_bps` Float64 CODEC(Gorilla, ZSTD(1)),
    `clear_bps` Float64 CODEC(Gorilla, ZSTD(1)),
    `for_us` Int64 CODEC(Delta, ZSTD(1)),
    `enabled` Bool CODEC(ZSTD(1)),
    `effective_at` Int64 CODEC(DoubleDelta, ZSTD(1)),
    `time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro(received_at, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_offset)
ORDER BY rule
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, fsync_after_insert = 1
