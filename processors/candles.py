"""Open, high, low, close of what was traded, of each instrument and of the market in USD."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, Literal

import msgspec

from cexdex.config import Config
from cexdex.records.candles import Candle
from cexdex.records.instruments import Instrument
from cexdex.records.rates import Rate
from cexdex.records.record import Record
from cexdex.records.trade import Trade

Interval = Literal["1s", "1m"]
LENGTHS: dict[Interval, int] = {"1s": 1_000_000, "1m": 60_000_000}
CLOSED_AFTER_US = 5_000_000
AHEAD_US = 60_000_000
"""A trade dated further ahead than this belongs to no candle that anybody would wait for."""


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trade as a candle counts it."""

    at: int
    order: int
    price: float
    size: float
    quote_size: float
    bought: bool


class Candles:
    """A trade belongs to the candle of its event_time; 5 s of stream time after its end a candle is closed."""

    reads: ClassVar[tuple[type[Record], ...]] = (Trade, Rate, Instrument)
    writes: ClassVar[tuple[type[Record], ...]] = (Candle,)
    lookback_us: ClassVar[int] = 120_000_000
    recalls: ClassVar[tuple[type[Record], ...]] = ()

    def __init__(self, market: str, config: Config) -> None:
        self._market = market
        self._rates: dict[str, Rate] = {}
        self._quote_assets: dict[str, str] = {}
        self._open: dict[tuple[int, Interval, str], dict[tuple[str, str], Fill]] = {}
        """By end, interval and instrument ('' for the market): its fills by instrument and trade_id."""
        self._order = 0
        self.counts: Counter[str] = Counter()

    def recall(self, own: Record) -> None:
        """Nothing: every trade of an open candle lies within the lookback."""

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        if isinstance(record, Trade):
            self._trade(record, now)
        elif isinstance(record, Rate):
            self._rates[record.asset] = record
        elif isinstance(record, Instrument):
            self._quote_assets[record.instrument] = record.quote_asset
        return iter(())

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        closed = sorted(key for key in self._open if key[0] + CLOSED_AFTER_US <= now)
        for key in closed:
            fills = self._open.pop(key)
            if fills:
                yield self._candle(key, list(fills.values()), now, offset)

    def _trade(self, trade: Trade, now: int) -> None:
        at = trade.received_at if trade.event_time is None else trade.event_time
        if at > now + AHEAD_US:
            self.counts["candle_ahead"] += 1
            return
        self._order += 1
        own = Fill(
            at=at,
            order=self._order,
            price=trade.price,
            size=trade.size,
            quote_size=trade.quote_size,
            bought=trade.taker_side == "buy",
        )
        rate = self._rate(trade.instrument)
        for interval, length in LENGTHS.items():
            end = (at // length + 1) * length
            if end + CLOSED_AFTER_US <= now:
                self.counts["candle_late"] += 1
                continue
            self._put((end, interval, trade.instrument), trade, own)
            if rate is None:
                self.counts["candle_no_rate"] += 1
                continue
            in_usd = msgspec.structs.replace(own, price=own.price * rate, quote_size=own.quote_size * rate)
            self._put((end, interval, ""), trade, in_usd)

    def _put(self, key: tuple[int, Interval, str], trade: Trade, fill: Fill) -> None:
        fills = self._open.setdefault(key, {})
        if trade.action == "bust":
            fills.pop((trade.instrument, trade.trade_id), None)
        else:
            fills[trade.instrument, trade.trade_id] = fill

    def _rate(self, instrument: str) -> float | None:
        asset = self._quote_assets.get(instrument)
        if asset == "USD":
            return 1.0
        rate = self._rates.get(asset or "")
        return rate.rate if rate is not None and rate.state in ("live", "assumed", "depegged") else None

    def _candle(self, key: tuple[int, Interval, str], fills: list[Fill], now: int, offset: int) -> Candle:
        end, interval, instrument = key
        fills.sort(key=lambda fill: (fill.at, fill.order))
        prices = [fill.price for fill in fills]
        volume = sum(fill.size for fill in fills)
        quote_volume = sum(fill.quote_size for fill in fills)
        return Candle(
            market=self._market,
            received_at=now,
            source_offset=offset,
            instrument=instrument,
            interval=interval,
            started_at=end - LENGTHS[interval],
            open=prices[0],
            high=max(prices),
            low=min(prices),
            close=prices[-1],
            volume=volume,
            quote_volume=quote_volume,
            buy_volume=sum(fill.size for fill in fills if fill.bought),
            trades=len(fills),
            vwap=quote_volume / volume,
        )


PROCESSOR = Candles
