"""How liquid an instrument is, each second."""

from __future__ import annotations

from cexdex.records.record import Bps, Name, RateState, Reason, Record, record


@record(topic="liquidity", key="market", id=("instrument", "received_at"), keep_days=90)
class Liquidity(Record, tag="liquidity", frozen=True, kw_only=True, gc=False):
    """Spread, depth, slippage and imbalance of one instrument; null beyond its known range."""

    market: Name
    source_offset: int
    venue: Name
    instrument: Name
    bid: float | None
    ask: float | None
    reference_mid: float | None
    """(bid + ask) / 2, from which depth and slippage are measured."""
    weighted_mid: float | None
    """I × ask + (1 − I) × bid with I = bid_size / (bid_size + ask_size)."""
    imbalance: float | None
    """(bid_size − ask_size) / (bid_size + ask_size)."""
    spread_bps: Bps | None
    bid_depth_10bps: float | None
    """Base resting within 10 bps below the reference mid."""
    bid_depth_25bps: float | None
    bid_depth_50bps: float | None
    bid_depth_100bps: float | None
    bid_depth_200bps: float | None
    ask_depth_10bps: float | None
    ask_depth_25bps: float | None
    ask_depth_50bps: float | None
    ask_depth_100bps: float | None
    ask_depth_200bps: float | None
    bids_complete_to_bps: float | None
    asks_complete_to_bps: float | None
    buy_slippage_1k_bps: Bps | None
    """1e4 × (VWAP of buying 1,000 USD / reference mid − 1)."""
    buy_slippage_10k_bps: Bps | None
    buy_slippage_100k_bps: Bps | None
    buy_slippage_1m_bps: Bps | None
    sell_slippage_1k_bps: Bps | None
    """1e4 × (1 − VWAP of selling 1,000 USD / reference mid)."""
    sell_slippage_10k_bps: Bps | None
    sell_slippage_100k_bps: Bps | None
    sell_slippage_1m_bps: Bps | None
    rate: float | None
    rate_state: RateState
    age_us: int | None
    ladder_age_us: int | None
    quote_session: int | None
    quote_ordinal: int | None
    book_session: int | None
    book_ordinal: int | None
    valid: bool
    reason: Reason | None
