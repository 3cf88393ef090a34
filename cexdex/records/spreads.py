"""The spread of one edge: buy here, sell there."""

from __future__ import annotations

from cexdex.records.record import Bps, Name, Part, RateState, Reason, Record, record


class SpreadSize(Part, frozen=True, kw_only=True, gc=False):
    """The edge at one configured notional; prices null with a reason where it cannot be filled."""

    notional_usd: float
    buy_vwap: float | None
    sell_vwap: float | None
    net_bps: Bps | None
    net_converted_bps: Bps | None
    profit_usd: float | None
    reason: Reason | None


@record(topic="spreads", key="market", id=("edge", "received_at", "ordinal"), keep_days=90)
class Spread(Record, tag="spreads", frozen=True, kw_only=True, gc=False):
    """An ordered pair of instruments of a market: what buying on one and selling on the other returns, in bps of
    the capital spent: 1e4 × (sell / buy − 1)."""

    market: Name
    source_offset: int
    edge: Name
    """`buy instrument>sell instrument`."""
    ordinal: int
    buy: Name
    sell: Name
    buy_price: float | None
    """Best ask of the buy leg, in its own quote asset."""
    sell_price: float | None
    buy_size: float | None
    sell_size: float | None
    buy_rate: float | None
    """USD per unit of the buy leg's quote asset."""
    sell_rate: float | None
    buy_fee_bps: Bps
    sell_fee_bps: Bps
    fixed_cost_usd: float
    raw_bps: Bps | None
    """On the venues' own prices; null where the quote assets differ."""
    gross_bps: Bps | None
    """After both prices are turned into USD."""
    net_bps: Bps | None
    """Gross less both taker fees."""
    conversion_bps: Bps | None
    """Half-spread and fee of turning one quote asset into the other."""
    net_converted_bps: Bps | None
    deviation_bps: Bps | None
    """The mid of the leg furthest off against the USD median of at least three other live venues."""
    rate_state: RateState
    sizes: list[SpreadSize]
    best_size: float | None = None
    best_profit_usd: float | None = None
    min_size: float | None = None
    max_size: float | None = None
    inventory_size: float | None = None
    inventory_profit_usd: float | None = None
    transfer: str | None = None
    buy_age_us: int | None
    sell_age_us: int | None
    rate_age_us: int | None
    buy_quote_session: int | None
    buy_quote_ordinal: int | None
    buy_book_session: int | None
    buy_book_ordinal: int | None
    buy_ladder_age_us: int | None
    buy_block_number: int | None = None
    buy_block_hash: str | None = None
    sell_quote_session: int | None
    sell_quote_ordinal: int | None
    sell_book_session: int | None
    sell_book_ordinal: int | None
    sell_ladder_age_us: int | None
    sell_block_number: int | None = None
    sell_block_hash: str | None = None
    valid: bool
    reason: Reason | None
