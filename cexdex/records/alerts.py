"""A change of an alert's state."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Bps, Micros, Name, Part, RateState, Reason, Record, record


class AlertContext(Part, frozen=True, kw_only=True, gc=False):
    """What a desk needs beside the number, copied from the spread that caused the change."""

    buy: str
    sell: str
    buy_price: float | None
    sell_price: float | None
    buy_vwap: float | None
    sell_vwap: float | None
    gross_bps: Bps | None
    net_bps: Bps | None
    net_converted_bps: Bps | None
    conversion_bps: Bps | None
    profit_usd: float | None
    deviation_bps: Bps | None
    buy_age_us: int | None
    sell_age_us: int | None
    rate_age_us: int | None
    rate_state: RateState
    spread_received_at: Micros
    spread_ordinal: int


@record(topic="alerts", key=("rule", "edge", "size"), id=("alert_id", "state", "received_at"), compact=True)
class Alert(Record, tag="alerts", frozen=True, kw_only=True, gc=False):
    """pending → firing → resolved, and nodata while the spread cannot be believed."""

    market: Name
    source_offset: int
    alert_id: str
    """Of rule, edge, size and the microsecond of pending."""
    rule: Name
    edge: Name
    size: Name
    """The notional in USD as text, or `touch`."""
    state: Literal["pending", "firing", "resolved", "nodata"]
    reason: Reason | None
    value: Bps | None
    threshold: Bps
    peak: Bps | None
    started_at: Micros
    """When pending began."""
    deliver: bool
    """False when it only returns to firing out of nodata: people were told already."""
    context: AlertContext
