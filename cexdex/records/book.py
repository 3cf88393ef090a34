"""The ladder of an exchange's instrument."""

from __future__ import annotations

from cexdex.records.record import Levels, Name, Reason, Record, State, record


@record(topic="market", key="market", table="books", id=("instrument", "session", "ordinal"), keep_days=3)
class Book(Record, tag="book", frozen=True, kw_only=True, gc=False):
    """Best levels as they are, then buckets of a fixed grid of 1 bp to ±50 bps and of 5 bps to ±200 bps."""

    market: Name
    instrument: Name
    bids: Levels
    asks: Levels
    exact_levels: tuple[int, int]
    """How many of the bids and of the asks are single levels of the venue; the rest are buckets."""
    reference_price: float | None
    """The book's own mid, from which the reach below is measured; null when a side is empty."""
    bids_complete_to_bps: float | None
    """How far below the reference price every bid is known, at most 200; null when nothing is."""
    asks_complete_to_bps: float | None
    session: int
    ordinal: int
    """Ours, from 0 in each session, of books alone."""
    sequence: int | None
    state: State
    reason: Reason | None
