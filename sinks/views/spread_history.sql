-- How an edge's spread moved, minute by minute. Ask for a market and a span of time: the rest is not read.
-- columns:
--   market: the folded market
--   edge: `buy instrument>sell instrument`
--   minute: its start, UTC
--   records: how often it was published; at least six a minute
--   valid_share: the part of the records that could be believed
--   max_net_bps: the best net spread of a valid record
--   max_net_converted_bps: the best after conversion
--   median_net_bps: the middle of the valid records
--   last_net_bps: of the last valid record
--   max_profit_usd: the most that the best size would have earned
-- example:
--   SELECT minute, edge, max_net_converted_bps, valid_share FROM spread_history WHERE market = 'BTC-USD' ORDER BY max_net_converted_bps DESC LIMIT 10
SELECT
    market,
    edge,
    toStartOfMinute(time) AS minute,
    count() AS records,
    countIf(valid) / count() AS valid_share,
    maxIf(net_bps, valid) AS max_net_bps,
    maxIf(net_converted_bps, valid) AS max_net_converted_bps,
    quantileExactIf(0.5)(net_bps, valid) AS median_net_bps,
    argMaxIf(net_bps, (received_at, ordinal), valid) AS last_net_bps,
    maxIf(best_profit_usd, valid) AS max_profit_usd
FROM spreads FINAL
GROUP BY market, edge, minute
