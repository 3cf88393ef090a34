"""A fill."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Name, Record, record


@record(
    topic="market",
    key="market",
    table="trades",
    id=("instrument", "trade_id"),
    time="event_time",
    keep_days=90,
)
class Trade(Record, tag="trade", frozen=True, kw_only=True, gc=False):
    """A fill on an exchange or in a pool; event_time is never null here: the venue's, else the first sight of it."""

    market: Name
    venue: Name
    instrument: Name
    trade_id: str
    price: float
    size: float
    """In the market's base."""
    taker_side: Literal["buy", "sell"]
    """Who crossed the spread, never the maker."""
    quote_size: float
    action: Literal["new", "bust"] = "new"
    revision: int = 0
    origin: Literal["live", "recovery", "backfill"] = "live"
    block_number: int | None = None
    block_hash: str | None = None
    tx_hash: str | None = None
