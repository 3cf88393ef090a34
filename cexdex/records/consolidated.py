"""The best bid and offer over all venues of a market."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Bps, Name, Record, record


@record(topic="consolidated", key="market", id=("market", "received_at"), keep_days=90)
class Consolidated(Record, tag="consolidated", frozen=True, kw_only=True, gc=False):
    """Best prices in USD over the live instruments of a market, at 100 ms points when changed."""

    market: Name
    source_offset: int
    bid_usd: float | None
    bid_size: float | None
    bid_instrument: Name | None
    ask_usd: float | None
    ask_size: float | None
    ask_instrument: Name | None
    mid_usd: float | None
    spread_bps: Bps | None
    """1e4 × (ask − bid) / mid; negative when crossed."""
    net_bid_usd: float | None
    """Best bid after that venue's taker fee."""
    net_bid_instrument: Name | None
    net_ask_usd: float | None
    """Best ask after that venue's taker fee."""
    net_ask_instrument: Name | None
    status: Literal["normal", "locked", "crossed", "empty"]
    venues: int
    """Venues with a live quote and a rate."""
    bid_depth_10bps: float | None
    """Base bid within 10 bps below the mid over all live ladders; null where one does not reach so far."""
    ask_depth_10bps: float | None
