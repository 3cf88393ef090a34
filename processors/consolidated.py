"""The best bid and offer of a market over all its venues, in USD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import msgspec

from cexdex.config import Config
from cexdex.domain.murmur2 import phase_at, phase_of
from cexdex.records.book import Book
from cexdex.records.consolidated import Consolidated
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import Record
from processors.leg import Leg, Legs

DEPTH_BPS = 10.0


class ConsolidatedQuote:
    """Leaves at points of 100 ms, when it has changed since it last did."""

    reads: ClassVar[tuple[type[Record], ...]] = (Instrument, Rate, Quote, Book)
    writes: ClassVar[tuple[type[Record], ...]] = (Consolidated,)
    lookback_us: ClassVar[int] = 75_000_000
    recalls: ClassVar[tuple[type[Record], ...]] = ()

    def __init__(self, market: str, config: Config) -> None:
        self._market = market
        self._phase = phase_of(market)
        self._legs = Legs(config)
        self._touched = False
        self._said: Consolidated | None = None

    def recall(self, own: Record) -> None:
        """Nothing: it is said anew at its 10 s point, so that the lookback suffices."""

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        self._touched = self._legs.take(record, now) or self._touched
        return iter(())

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        self._touched = self._legs.pass_time(now) or self._touched
        due = phase_at(now) == self._phase
        if not self._touched and not due:
            return
        self._touched = False
        said = consolidate(self._market, self._legs, now, offset)
        if due or self._said is None or _content(said) != _content(self._said):
            self._said = said
            yield said


PROCESSOR = ConsolidatedQuote


def consolidate(market: str, legs: Legs, now: int, offset: int) -> Consolidated:
    """The best prices over the legs that can be believed now; of equal ones the first by name."""
    live = [leg for leg in legs.all() if leg.reason_at(now) is None and leg.rate_reason is None]
    bids = [leg for leg in live if leg.bid_usd is not None]
    asks = [leg for leg in live if leg.ask_usd is not None]
    bid = max(bids, key=lambda leg: leg.bid_usd or 0.0, default=None)
    ask = min(asks, key=lambda leg: leg.ask_usd or 0.0, default=None)
    net_bid = max(bids, key=lambda leg: leg.net_bid_usd or 0.0, default=None)
    net_ask = min(asks, key=lambda leg: leg.net_ask_usd or 0.0, default=None)
    bid_usd = None if bid is None else bid.bid_usd
    ask_usd = None if ask is None else ask.ask_usd
    mid = None if bid_usd is None or ask_usd is None else (bid_usd + ask_usd) / 2
    return Consolidated(
        market=market,
        received_at=now,
        source_offset=offset,
        bid_usd=bid_usd,
        bid_size=None if bid is None or bid.quote is None else bid.quote.bid_size,
        bid_instrument=None if bid is None else bid.instrument,
        ask_usd=ask_usd,
        ask_size=None if ask is None or ask.quote is None else ask.quote.ask_size,
        ask_instrument=None if ask is None else ask.instrument,
        mid_usd=mid,
        spread_bps=None if mid is None else 1e4 * ((ask_usd or 0.0) - (bid_usd or 0.0)) / mid,
        net_bid_usd=None if net_bid is None else net_bid.net_bid_usd,
        net_bid_instrument=None if net_bid is None else net_bid.instrument,
        net_ask_usd=None if net_ask is None else net_ask.net_ask_usd,
        net_ask_instrument=None if net_ask is None else net_ask.instrument,
        status=_status(bid_usd, ask_usd),
        venues=len({leg.venue for leg in live}),
        bid_depth_10bps=_depth(live, "sell", mid),
        ask_depth_10bps=_depth(live, "buy", mid),
    )


def _status(bid: float | None, ask: float | None) -> Literal["normal", "locked", "crossed", "empty"]:
    if bid is None or ask is None:
        return "empty"
    if bid == ask:
        return "locked"
    return "crossed" if bid > ask else "normal"


def _depth(live: list[Leg], side: Literal["buy", "sell"], mid_usd: float | None) -> float | None:
    """Base within 10 bps of the common mid, summed; null where one ladder is not known so far."""
    if mid_usd is None:
        return None
    limit_usd = mid_usd * (1 + (DEPTH_BPS if side == "buy" else -DEPTH_BPS) * 1e-4)
    total = 0.0
    for leg in live:
        size = leg.size_to(side, limit_usd / (leg.rate or 1.0))
        if size is None:
            return None
        total += size
    return total


def _content(said: Consolidated) -> Consolidated:
    return msgspec.structs.replace(said, received_at=0, source_offset=0, published_at=0)
