-- What buying on one venue and selling on another returns at this moment: the newest record of every edge.
-- columns:
--   market: the folded market
--   buy: the instrument bought
--   sell: the instrument sold
--   buy_price: best ask of the buy leg, in its own quote asset
--   sell_price: best bid of the sell leg, in its own quote asset
--   gross_bps: after both prices are turned into USD
--   net_bps: gross less both taker fees
--   net_converted_bps: net less what turning one quote asset into the other costs
--   net_1k_bps: net at the smallest configured notional, walking the books
--   best_profit_usd: profit at the size that earns most
--   buy_age_us: how long ago the buy leg was last proved current
--   sell_age_us: the same of the sell leg
--   valid: whether it can be believed; never when the stored data is old
--   reason: why it cannot
--   as_of: `now`, or what the rows are instead: `sink_lag` (old by more than 10 s) or `replay`
--   age_us: how much older than the newest record of any edge
--   received_at: stream time of the record
-- example:
--   SELECT market, buy, sell, net_converted_bps, reason FROM spread_now ORDER BY net_converted_bps DESC LIMIT 10
WITH
    (SELECT toUnixTimestamp64Micro(max(time)) FROM spreads SETTINGS final = 0) AS newest,
    toUnixTimestamp64Micro(now64(6)) - newest > 10000000 AS late
SELECT
    market, buy, sell, buy_price, sell_price, gross_bps, net_bps, net_converted_bps,
    sizes[1].net_bps AS net_1k_bps, best_profit_usd, buy_age_us, sell_age_us,
    record_valid AND NOT (late AND '{late}' = 'sink_lag') AS valid,
    if(late AND ('{late}' = 'sink_lag' OR record_valid), '{late}', record_reason) AS reason,
    if(late, '{late}', 'now') AS as_of,
    newest - received_at AS age_us,
    received_at
FROM
(
    SELECT * EXCEPT (valid, reason), valid AS record_valid, reason AS record_reason
    FROM spreads FINAL
    WHERE time > fromUnixTimestamp64Micro(newest - 30000000, 'UTC')
    ORDER BY received_at DESC, ordinal DESC
    LIMIT 1 BY edge
)
