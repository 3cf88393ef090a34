"""What one unit of an asset is worth in USD."""

from __future__ import annotations

from cexdex.records.record import Name, RateState, Record, record


@record(topic="rates", key="asset", id=("asset", "received_at"), compact=True, keep_days=90)
class Rate(Record, tag="rates", frozen=True, kw_only=True, gc=False):
    """USD per unit of an asset, each second and at a change of state; null with the state when there is none."""

    asset: Name
    rate: float | None
    bid: float | None
    ask: float | None
    conversion_bps: float | None
    """Half-spread and taker fee along the path: what turning the asset into USD costs."""
    path: list[str]
    """The instruments walked from the asset to USD, of the median source."""
    sources: list[str]
    """Every live instrument that took part in the median."""
    age_us: int | None
    state: RateState
    source_offset: int
    """Offset in reference_quotes of the last record that it is made of."""
