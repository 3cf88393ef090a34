"""The quotes that rates are made of."""

from __future__ import annotations

from cexdex.records.record import Micros, Name, Reason, Record, State, record


@record(topic="reference_quotes", key="instrument", id=("instrument", "received_at"), keep_days=14)
class ReferenceQuote(Record, tag="reference_quotes", frozen=True, kw_only=True, gc=False):
    """A rate source's quote once more, at each full second and at each change of state."""

    market: Name
    venue: Name
    instrument: Name
    base_asset: Name
    quote_asset: Name
    bid: float | None
    ask: float | None
    taker_fee_bps: float
    session: int
    changed_at: Micros
    verified_at: Micros
    state: State
    reason: Reason | None
