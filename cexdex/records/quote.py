"""Best bid and offer of an instrument."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Micros, Name, Reason, Record, State, record


@record(topic="market", key="market", table="quotes", id=("instrument", "session", "ordinal"), keep_days=14)
class Quote(Record, tag="quote", frozen=True, kw_only=True, gc=False):
    """The best bid and offer with sizes; prices are null when the state is not live or a side is empty."""

    market: Name
    venue: Name
    instrument: Name
    base_asset: Name
    quote_asset: Name
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    session: int
    """Microsecond at which the connection was made."""
    ordinal: int
    """Ours, from 0 in each session, of quotes alone."""
    sequence: int | None
    """The venue's, comparable inside one session only."""
    source: Literal["top", "book", "pool"]
    changed_at: Micros
    """received_at of the last change of price or size."""
    verified_at: Micros
    """Last received_at that proved the quote current."""
    state: State
    reason: Reason | None
    pool_price: float | None = None
    fee_pips: int | None = None
    block_number: int | None = None
    block_hash: str | None = None
    pool_block_hash: str | None = None
