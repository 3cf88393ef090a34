-- Open, high, low, close and volume of every instrument by the minute of its trades' own time, computed from the trades
-- as they stand: recovered ones are in, taken-back ones are out. The topic `candles` is what was seen in time.
-- columns:
--   market: the folded market
--   instrument: the thing traded, its prices in its own quote asset
--   minute: its start, UTC
--   started_at: the same in microseconds
--   open: price of the first trade
--   high: highest price
--   low: lowest price
--   close: price of the last trade
--   volume: base traded
--   quote_volume: quote traded
--   buy_volume: base whose taker bought
--   trades: how many
--   vwap: quote_volume / volume
-- example:
--   SELECT minute, open, high, low, close, volume FROM candles_1m WHERE market = 'BTC-USD' ORDER BY minute DESC, instrument LIMIT 20
SELECT
    market,
    instrument,
    toStartOfMinute(time) AS minute,
    toInt64(toUnixTimestamp(minute)) * 1000000 AS started_at,
    argMin(price, place) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, place) AS close,
    sumKahan(size) AS volume,
    sumKahan(quote_size) AS quote_volume,
    sumKahanIf(size, taker_side = 'buy') AS buy_volume,
    count() AS trades,
    quote_volume / volume AS vwap
FROM
(
    -- Trades of one millisecond stand in the order of their ids, which count up; in a block, of their logs.
    SELECT *, time, (time, ifNull(block_number, 0), length(trade_id), trade_id) AS place
    FROM trades FINAL
    WHERE action = 'new'
)
GROUP BY market, instrument, minute
