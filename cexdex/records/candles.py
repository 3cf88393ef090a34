"""Open, high, low, close of the trades seen in time."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Micros, Name, Record, record


@record(
    topic="candles",
    key="market",
    id=("market", "instrument", "interval", "started_at"),
    time="started_at",
    keep_days=90,
)
class Candle(Record, tag="candles", frozen=True, kw_only=True, gc=False):
    """A candle of one instrument in its own quote asset, or of a whole market in USD (instrument '')."""

    market: Name
    source_offset: int
    instrument: Name
    interval: Literal["1s", "1m"]
    started_at: Micros
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    buy_volume: float
    """Volume whose taker bought."""
    trades: int
    vwap: float
