"""What is listed where."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Bps, Micros, Name, Part, Record, record


class Token(Part, frozen=True, kw_only=True, gc=False):
    """A pool's token, from our registry or the chain."""

    address: str
    decimals: int
    verified: bool
    flags: list[str] = []


@record(topic="instruments", key="instrument", id="instrument", compact=True, dateless=True)
class Instrument(Record, tag="instruments", frozen=True, kw_only=True, gc=False):
    """One thing traded on one venue, with its steps, limits and fees."""

    market: Name
    venue: Name
    instrument: Name
    symbol: str
    """The venue's own text."""
    base_asset: Name
    quote_asset: Name
    inverted: bool = False
    alias_of: str | None = None
    """The instrument whose book this one is; listed, never subscribed, never an edge."""
    kind: Literal["spot", "amm"] = "spot"
    price_increment: float | None = None
    size_increment: float | None = None
    min_size: float | None = None
    min_notional: float | None = None
    max_size: float | None = None
    multiplier: float = 1.0
    taker_fee_bps: Bps
    maker_fee_bps: Bps | None = None
    fee_asset: Literal["quote", "base"] = "quote"
    """What a buyer's fee is taken in."""
    fee_source: str
    fee_as_of: Micros | None = None
    status: Literal["trading", "halted", "delisted", "assumed"]
    chain: str | None = None
    pool: str | None = None
    token0: Token | None = None
    token1: Token | None = None
