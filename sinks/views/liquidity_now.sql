-- How liquid every instrument is at this moment: spread, depth and what a size costs.
-- columns:
--   market: the folded market
--   venue: the exchange or pool family
--   instrument: the thing traded
--   spread_bps: between its own bid and ask
--   bid_depth_10bps: base resting within 10 bps below its mid; null beyond what is known of the book
--   ask_depth_10bps: base resting within 10 bps above its mid
--   buy_slippage_10k_bps: what buying 10,000 USD costs beside the mid
--   buy_slippage_100k_bps: the same for 100,000 USD
--   sell_slippage_10k_bps: what selling 10,000 USD costs beside the mid
--   sell_slippage_100k_bps: the same for 100,000 USD
--   imbalance: (bid size - ask size) / (bid size + ask size) at the touch
--   valid: whether it can be believed; never when the stored data is old
--   reason: why it cannot
--   as_of: `now`, or what the rows are instead: `sink_lag` (old by more than 10 s) or `replay`
--   age_us: how much older than the newest record of any instrument
--   received_at: stream time of the record
-- example:
--   SELECT instrument, spread_bps, bid_depth_10bps, buy_slippage_100k_bps, reason FROM liquidity_now ORDER BY buy_slippage_100k_bps
WITH
    (SELECT toUnixTimestamp64Micro(max(time)) FROM liquidity SETTINGS final = 0) AS newest,
    toUnixTimestamp64Micro(now64(6)) - newest > 10000000 AS late
SELECT
    market, venue, instrument, spread_bps, bid_depth_10bps, ask_depth_10bps,
    buy_slippage_10k_bps, buy_slippage_100k_bps, sell_slippage_10k_bps, sell_slippage_100k_bps, imbalance,
    record_valid AND NOT (late AND '{late}' = 'sink_lag') AS valid,
    if(late AND ('{late}' = 'sink_lag' OR record_valid), '{late}', record_reason) AS reason,
    if(late, '{late}', 'now') AS as_of,
    newest - received_at AS age_us,
    received_at
FROM
(
    SELECT * EXCEPT (valid, reason), valid AS record_valid, reason AS record_reason
    FROM liquidity FINAL
    WHERE time > fromUnixTimestamp64Micro(newest - 30000000, 'UTC')
    ORDER BY received_at DESC
    LIMIT 1 BY instrument
)
