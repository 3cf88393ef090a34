"""How liquid each instrument is, once a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from cexdex.config import Config
from cexdex.records.book import Book
from cexdex.records.instruments import Instrument
from cexdex.records.liquidity import Liquidity
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import Reason, Record
from processors.leg import Leg, Legs

SECOND_US = 1_000_000
DEPTHS_BPS = (10, 25, 50, 100, 200)
SIZES_USD = {"1k": 1e3, "10k": 1e4, "100k": 1e5, "1m": 1e6}


class LiquidityOfInstruments:
    """At each full second a record of every listed instrument, also of one that cannot be believed."""

    reads: ClassVar[tuple[type[Record], ...]] = (Instrument, Rate, Quote, Book)
    writes: ClassVar[tuple[type[Record], ...]] = (Liquidity,)
    lookback_us: ClassVar[int] = 75_000_000
    recalls: ClassVar[tuple[type[Record], ...]] = ()

    def __init__(self, market: str, config: Config) -> None:
        self._market = market
        self._legs = Legs(config)

    def recall(self, own: Record) -> None:
        """Nothing: each record follows from what was received in the last minute."""

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        self._legs.take(record, now)
        return iter(())

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        self._legs.pass_time(now)
        if now % SECOND_US == 0:
            for leg in self._legs.all():
                yield liquidity(self._market, leg, now, offset)


PROCESSOR = LiquidityOfInstruments


def liquidity(market: str, leg: Leg, now: int, offset: int) -> Liquidity:
    """What the newest quote and ladder of an instrument say; nothing where they cannot be believed."""
    reason: Reason | None = leg.reason_at(now)
    believed = reason is None and leg.mid is not None
    if reason is None and leg.mid is None:
        reason = "no_liquidity"
    quote, book, mid = leg.quote, leg.book, leg.mid if believed else None
    bid_size, ask_size = (quote.bid_size, quote.ask_size) if believed and quote is not None else (None, None)
    whole = None if bid_size is None or ask_size is None else bid_size + ask_size
    share = bid_size / whole if bid_size is not None and whole else None
    numbers: dict[str, Any] = {}
    for reach in DEPTHS_BPS:
        numbers[f"bid_depth_{reach}bps"] = _depth(leg, "sell", mid, reach)
        numbers[f"ask_depth_{reach}bps"] = _depth(leg, "buy", mid, reach)
    for name, usd in SIZES_USD.items():
        numbers[f"buy_slippage_{name}_bps"] = _slippage(leg, "buy", mid, usd)
        numbers[f"sell_slippage_{name}_bps"] = _slippage(leg, "sell", mid, usd)
    reason = reason or leg.rate_reason
    bids_to, asks_to = leg.complete_to_bps(mid)
    return Liquidity(
        market=market,
        received_at=now,
        source_offset=offset,
        venue=leg.venue,
        instrument=leg.instrument,
        bid=leg.bid,
        ask=leg.ask,
        reference_mid=mid,
        weighted_mid=_weighted(leg, share) if believed else None,
        imbalance=None if share is None else 2 * share - 1,
        spread_bps=None if mid is None else 1e4 * ((leg.ask or 0.0) - (leg.bid or 0.0)) / mid,
        bids_complete_to_bps=bids_to,
        asks_complete_to_bps=asks_to,
        rate=leg.rate,
        rate_state=leg.rate_state,
        age_us=leg.age_us(now),
        ladder_age_us=leg.ladder_age_us(now),
        quote_session=None if quote is None else quote.session,
        quote_ordinal=None if quote is None else quote.ordinal,
        book_session=None if book is None else book.session,
        book_ordinal=None if book is None else book.ordinal,
        valid=reason is None,
        reason=reason,
        **numbers,
    )


def _weighted(leg: Leg, share: float | None) -> float | None:
    if share is None or leg.bid is None or leg.ask is None:
        return None
    return share * leg.ask + (1 - share) * leg.bid


def _depth(leg: Leg, side: str, mid: float | None, reach_bps: int) -> float | None:
    if mid is None:
        return None
    if side == "buy":
        return leg.size_to("buy", mid * (1 + reach_bps * 1e-4))
    return leg.size_to("sell", mid * (1 - reach_bps * 1e-4))


def _slippage(leg: Leg, side: str, mid: float | None, usd: float) -> float | None:
    base, depth = leg.base_of(usd), leg.depth()
    if mid is None or base is None or depth is None:
        return None
    vwap = depth.vwap("buy" if side == "buy" else "sell", base)
    if isinstance(vwap, str):
        return None
    return 1e4 * (vwap / mid - 1) if side == "buy" else 1e4 * (1 - vwap / mid)
