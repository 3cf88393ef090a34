"""What buying on one venue and selling on another returns, and whether that can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median
from typing import ClassVar

from cexdex.config import Config
from cexdex.domain.fees import bps
from cexdex.domain.murmur2 import phase_at, phase_of
from cexdex.domain.rates import worst
from cexdex.records.book import Book
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import Reason, Record
from cexdex.records.spreads import Spread, SpreadSize
from processors.leg import Leg, is_leg

PEERS_FOR_DEVIATION = 3


Executed = tuple[float | None, float | None, float | None, float | None, Reason | None]
"""net_bps, buy VWAP, sell VWAP, profit in USD at one notional; or why not."""


class Edge:
    """An ordered pair, and what was last said of it."""

    __slots__ = (
        "above",
        "buy",
        "executed",
        "executed_of",
        "id",
        "nets",
        "now",
        "ordinal",
        "reason",
        "said",
        "same_asset",
        "sell",
    )

    def __init__(self, buy: Leg, sell: Leg) -> None:
        self.buy, self.sell = buy, sell
        self.id = f"{buy.instrument}>{sell.instrument}"
        self.same_asset = buy.quote_asset == sell.quote_asset
        self.said = False
        self.reason: Reason | None = None
        self.above = False
        self.nets: tuple[float | None, ...] = ()
        self.now, self.ordinal = -1, 0
        self.executed: list[Executed] = []
        self.executed_of = (-1, -1)
        """The versions of the legs that this was computed from."""

    def conversion_bps(self) -> float | None:
        if self.same_asset:
            return 0.0
        buy, sell = self.buy.conversion_bps, self.sell.conversion_bps
        return None if buy is None or sell is None else buy + sell


class Spreads:
    """All edges of a market. A quote touches its own instrument's edges only; no record is made but to be sent."""

    reads: ClassVar[tuple[type[Record], ...]] = (Instrument, Rate, Quote, Book)
    writes: ClassVar[tuple[type[Record], ...]] = (Spread,)
    lookback_us: ClassVar[int] = 75_000_000
    recalls: ClassVar[tuple[type[Record], ...]] = ()

    def __init__(self, market: str, config: Config) -> None:
        self._market = market
        self._config = config
        self._legs: dict[str, Leg] = {}
        self._rates: dict[str, Rate] = {}
        self._edges: dict[str, list[Edge]] = {}
        self._at_phase: dict[int, list[Edge]] = {}
        self._step = config.spread_step_bps
        self._floor = config.spread_floor_bps
        self._implausible = config.implausible_bps
        self._notionals = config.notionals_usd
        self._mids: dict[str, float] | None = None
        """The live mids in USD by venue, as of this call."""

    def recall(self, own: Record) -> None:
        """Nothing: each edge is said anew at its 10 s point, so that the lookback suffices."""

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        self._mids = None
        if isinstance(record, Quote):
            leg = self._legs.get(record.instrument)
            if leg is not None and leg.quoted(record, now):
                yield from self._say(self._edges[record.instrument], now, offset)
        elif isinstance(record, Book):
            leg = self._legs.get(record.instrument)
            if leg is not None:
                leg.booked(record)
                yield from self._say(self._edges[record.instrument], now, offset)
        elif isinstance(record, Rate):
            self._rates[record.asset] = record
            changed = {
                leg.instrument
                for leg in self._legs.values()
                if leg.quote_asset == record.asset and leg.rated(record)
            }
            if changed:
                yield from self._say(self._touching(changed), now, offset)
        elif isinstance(record, Instrument):
            yield from self._list(record, now, offset)

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        self._mids = None
        changed = {name for name, leg in self._legs.items() if leg.pass_time(now)}
        if changed:
            yield from self._say(self._touching(changed), now, offset)
        for edge in self._at_phase.get(phase_at(now), ()):
            yield self._spread(edge, edge_reason(edge, now, self._implausible), now, offset)

    def _list(self, listing: Instrument, now: int, offset: int) -> Iterator[Record]:
        leg = self._legs.get(listing.instrument)
        if not is_leg(listing):
            if leg is not None:
                yield from self._unlist(leg, listing, now, offset)
            return
        if leg is not None:
            leg.list(listing)
        else:
            leg = Leg(listing, self._config)
            leg.rated(self._rates.get(leg.quote_asset))
            self._legs = dict(sorted([*self._legs.items(), (leg.instrument, leg)]))
            self._pair()
        yield from self._say(self._edges[leg.instrument], now, offset)

    def _unlist(self, leg: Leg, listing: Instrument, now: int, offset: int) -> Iterator[Record]:
        """The last word on each of its edges, so that whatever hangs on them ends by the ordinary path."""
        for edge in self._edges[leg.instrument]:
            leg.reason = "halted" if listing.status == "halted" else "ended"
            leg.good_until = leg.forgotten_after = 1 << 62
            yield self._spread(edge, leg.reason, now, offset)
        del self._legs[leg.instrument]
        self._pair()

    def _pair(self) -> None:
        known = {edge.id: edge for edges in self._edges.values() for edge in edges}
        self._edges = {name: [] for name in self._legs}
        self._at_phase = {}
        for buy in self._legs.values():
            for sell in self._legs.values():
                if buy is sell or (buy.venue == sell.venue and not self._config.same_venue_edges):
                    continue
                edge = known.get(f"{buy.instrument}>{sell.instrument}")
                if edge is None or edge.buy is not buy or edge.sell is not sell:
                    edge = Edge(buy, sell)
                self._edges[buy.instrument].append(edge)
                self._edges[sell.instrument].append(edge)
                self._at_phase.setdefault(phase_of(edge.id), []).append(edge)

    def _touching(self, instruments: set[str]) -> Iterable[Edge]:
        """Every edge of these instruments once, in an order that depends on nothing but their names."""
        return {edge.id: edge for name in sorted(instruments) for edge in self._edges[name]}.values()

    def _say(self, edges: Iterable[Edge], now: int, offset: int) -> Iterator[Record]:
        """The edges of which there is something new (DATA §6, spreads)."""
        floor = self._floor
        for edge in edges:
            buy, sell = edge.buy, edge.sell
            reason = edge_reason(edge, now, self._implausible)
            if reason != edge.reason or not edge.said:
                yield self._spread(edge, reason, now, offset)
                continue
            # No executable price is better than the touch and no conversion earns: net_bps is the greatest of all.
            if reason in _NUMBERS or sell.net_bid_usd is None or buy.net_ask_usd is None:
                above = False
            else:
                above = bps(sell.net_bid_usd, buy.net_ask_usd) >= floor
            if above != edge.above or (above and self._moved(edge, self._nets(edge, reason))):
                yield self._spread(edge, reason, now, offset)

    def _moved(self, edge: Edge, nets: tuple[float | None, ...]) -> bool:
        for before, after in zip(edge.nets, nets, strict=True):
            if before is None or after is None:
                if before is not after:
                    return True
            elif abs(after - before) >= self._step:
                return True
        return False

    def _nets(self, edge: Edge, reason: Reason | None) -> tuple[float | None, ...]:
        """net_bps, net_converted_bps and every size's net_bps: what a step is measured on."""
        net = conversion = None
        if reason not in _NUMBERS and edge.sell.net_bid_usd is not None and edge.buy.net_ask_usd is not None:
            net = bps(edge.sell.net_bid_usd, edge.buy.net_ask_usd)
            conversion = edge.conversion_bps()
        converted = None if net is None or conversion is None else net - conversion
        return (net, converted, *(executed[0] for executed in self._executed(edge, reason)))

    def _executed(self, edge: Edge, reason: Reason | None) -> list[Executed]:
        if reason in _NUMBERS:
            return [(None, None, None, None, reason)] * len(self._notionals)
        versions = (edge.buy.version, edge.sell.version)
        if versions != edge.executed_of:
            edge.executed_of = versions
            edge.executed = [_executed(edge, notional) for notional in self._notionals]
        return edge.executed

    def _spread(self, edge: Edge, reason: Reason | None, now: int, offset: int) -> Spread:
        buy, sell = edge.buy, edge.sell
        edge.ordinal = edge.ordinal + 1 if edge.now == now else 0
        edge.now = now
        nets = self._nets(edge, reason)
        net = nets[0]
        edge.said, edge.reason, edge.nets = True, reason, nets
        edge.above = net is not None and net >= self._floor
        usable = reason not in _LEG_REASONS
        conversion = edge.conversion_bps()
        buy_quote, sell_quote, buy_book, sell_book = buy.quote, sell.quote, buy.book, sell.book
        return Spread(
            market=self._market,
            received_at=now,
            source_offset=offset,
            edge=edge.id,
            ordinal=edge.ordinal,
            buy=buy.instrument,
            sell=sell.instrument,
            buy_price=buy.ask,
            sell_price=sell.bid,
            buy_size=None if buy_quote is None else buy_quote.ask_size,
            sell_size=None if sell_quote is None else sell_quote.bid_size,
            buy_rate=buy.rate,
            sell_rate=sell.rate,
            buy_fee_bps=buy.listing.taker_fee_bps,
            sell_fee_bps=sell.listing.taker_fee_bps,
            fixed_cost_usd=0.0,
            raw_bps=_between(sell.bid, buy.ask) if usable and edge.same_asset else None,
            gross_bps=None if net is None else _between(sell.bid_usd, buy.ask_usd),
            net_bps=net,
            conversion_bps=conversion,
            net_converted_bps=nets[1],
            deviation_bps=None if reason in _NUMBERS else self._deviation_bps(edge, now),
            rate_state=worst(buy.rate_state, sell.rate_state),
            sizes=[
                _size(notional, executed, conversion)
                for notional, executed in zip(self._notionals, self._executed(edge, reason), strict=True)
            ],
            buy_age_us=buy.age_us(now),
            sell_age_us=sell.age_us(now),
            rate_age_us=_older(buy.rate_age_us(now), sell.rate_age_us(now)),
            buy_quote_session=None if buy_quote is None else buy_quote.session,
            buy_quote_ordinal=None if buy_quote is None else buy_quote.ordinal,
            buy_book_session=None if buy_book is None else buy_book.session,
            buy_book_ordinal=None if buy_book is None else buy_book.ordinal,
            buy_ladder_age_us=buy.ladder_age_us(now),
            buy_block_number=None if buy_quote is None else buy_quote.block_number,
            buy_block_hash=None if buy_quote is None else buy_quote.block_hash,
            sell_quote_session=None if sell_quote is None else sell_quote.session,
            sell_quote_ordinal=None if sell_quote is None else sell_quote.ordinal,
            sell_book_session=None if sell_book is None else sell_book.session,
            sell_book_ordinal=None if sell_book is None else sell_book.ordinal,
            sell_ladder_age_us=sell.ladder_age_us(now),
            sell_block_number=None if sell_quote is None else sell_quote.block_number,
            sell_block_hash=None if sell_quote is None else sell_quote.block_hash,
            valid=reason is None,
            reason=reason,
        )

    def _deviation_bps(self, edge: Edge, now: int) -> float | None:
        """The mid of the leg furthest off, against the USD median of at least three live venues besides the two."""
        if len(self._legs) < PEERS_FOR_DEVIATION + 2:
            return None
        if self._mids is None:
            mids: dict[str, list[float]] = {}
            for leg in self._legs.values():
                if leg.is_live(now) and leg.mid_usd is not None:
                    mids.setdefault(leg.venue, []).append(leg.mid_usd)
            self._mids = {venue: median(values) for venue, values in mids.items()}
        own = (edge.buy.venue, edge.sell.venue)
        others = sorted(mid for venue, mid in self._mids.items() if venue not in own)
        if len(others) < PEERS_FOR_DEVIATION:
            return None
        middle = (others[(len(others) - 1) // 2] + others[len(others) // 2]) / 2
        off = [bps(mid, middle) for mid in (edge.buy.mid_usd, edge.sell.mid_usd) if mid is not None]
        return max(off, key=abs, default=None)


PROCESSOR = Spreads

_LEG_REASONS: frozenset[Reason | None] = frozenset(
    ("stale_leg", "syncing", "gap", "checksum", "crossed", "disconnected", "halted", "ended",
     "beyond_known_range", "no_liquidity", "reorg", "unverified_asset")
)  # fmt: skip
_NUMBERS: frozenset[Reason | None] = _LEG_REASONS | {"no_rate"}
"""With one of these reasons an edge has no number: there is nothing to multiply."""


def edge_reason(edge: Edge, now: int, implausible_bps: float) -> Reason | None:
    """Why an edge must not be believed now: its legs first, then the rates, then the number itself."""
    buy, sell = edge.buy, edge.sell
    reason = buy.reason if now <= buy.good_until else "stale_leg"
    if reason is not None:
        return reason
    reason = sell.reason if now <= sell.good_until else "stale_leg"
    if reason is not None:
        return reason
    if buy.ask is None or sell.bid is None:
        return "no_liquidity"
    if buy.rate is None or sell.rate is None:
        return "no_rate"
    reason = buy.rate_reason or sell.rate_reason
    if reason is not None:
        return reason
    if bps(sell.bid_usd, buy.ask_usd) > implausible_bps:  # type: ignore[arg-type]
        return "implausible"
    return None


def _executed(edge: Edge, notional: float) -> Executed:
    """The edge at one notional: both legs trade the base that the notional is at the buy leg's mid."""
    sell = edge.sell
    base, buy_vwap, paid, reason = edge.buy.bought(notional)
    if paid is None and reason != "insufficient_depth" and reason != "beyond_known_range":
        return (None, None, None, None, reason)
    if base < (sell.listing.min_size or 0.0) or base * (sell.bid or 0.0) < (sell.listing.min_notional or 0.0):
        return (None, None, None, None, "below_minimum")
    depth = sell.depth()
    if depth is None or sell.rate is None:
        return (None, None, None, None, "syncing")
    sell_vwap = depth.vwap("sell", base)
    if isinstance(sell_vwap, str):
        return (None, buy_vwap, None, None, reason or sell_vwap)
    if paid is None:
        return (None, None, sell_vwap, None, reason)
    got = sell_vwap * sell.rate * sell.sell_factor
    return (bps(got, paid), buy_vwap, sell_vwap, base * (got - paid), None)


def _size(notional: float, executed: Executed, conversion: float | None) -> SpreadSize:
    net, buy_vwap, sell_vwap, profit, reason = executed
    return SpreadSize(
        notional_usd=notional,
        buy_vwap=buy_vwap,
        sell_vwap=sell_vwap,
        net_bps=net,
        net_converted_bps=None if net is None or conversion is None else net - conversion,
        profit_usd=profit,
        reason=reason,
    )


def _between(sell: float | None, buy: float | None) -> float | None:
    return None if sell is None or buy is None else bps(sell, buy)


def _older(first: int | None, second: int | None) -> int | None:
    return max((age for age in (first, second) if age is not None), default=None)
