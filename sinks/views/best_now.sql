-- Where a market is cheapest to buy and dearest to sell at this moment, over all its venues, in USD.
-- columns:
--   market: the folded market
--   bid_usd: best bid
--   bid_instrument: whose it is
--   ask_usd: best offer
--   ask_instrument: whose it is
--   spread_bps: between the two; negative when the venues are crossed
--   net_bid_usd: best bid after that venue's taker fee
--   net_bid_instrument: whose it is
--   net_ask_usd: best offer after that venue's taker fee
--   net_ask_instrument: whose it is
--   status: normal, locked, crossed or empty
--   venues: how many have a live quote and a rate
--   as_of: `now`, or what the rows are instead: `sink_lag` (old by more than 10 s) or `replay`
--   received_at: stream time of the record
-- example:
--   SELECT market, ask_instrument, net_ask_usd, bid_instrument, net_bid_usd, status, as_of FROM best_now
WITH
    (SELECT toUnixTimestamp64Micro(max(time)) FROM consolidated SETTINGS final = 0) AS newest,
    toUnixTimestamp64Micro(now64(6)) - newest > 10000000 AS late
SELECT
    market, bid_usd, bid_instrument, ask_usd, ask_instrument, spread_bps,
    net_bid_usd, net_bid_instrument, net_ask_usd, net_ask_instrument, status, venues,
    if(late, '{late}', 'now') AS as_of,
    received_at
FROM consolidated FINAL
WHERE time > fromUnixTimestamp64Micro(newest - 30000000, 'UTC')
ORDER BY received_at DESC
LIMIT 1 BY market
