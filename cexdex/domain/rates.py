"""What each asset is worth in USD, from the quotes of the few instruments that tell it (DATA §4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["live", "stale", "depegged", "assumed", "missing"]
SOURCE_LIMIT_US = 60_000_000
"""A source is believed so long without proof, and remembered so long without a word."""
SESSION_LIMIT_US = 3_000_000
"""A lower session is ignored until the greatest has been silent for so long."""
WORST_FIRST: tuple[State, ...] = ("missing", "stale", "depegged", "assumed", "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A quote of an instrument that tells what its base is worth in its quote asset."""

    instrument: str
    base: str
    quote: str
    bid: float | None
    ask: float | None
    taker_fee_bps: float
    session: int
    live: bool
    verified_at: int
    received_at: int
    offset: int

    def is_live(self, now: int) -> bool:
        return (
            self.live
            and self.bid is not None
            and self.ask is not None
            and now - self.verified_at <= SOURCE_LIMIT_US
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """USD per unit of an asset, and how it is known."""

    asset: str
    state: State
    rate: float | None = None
    bid: float | None = None
    ask: float | None = None
    conversion_bps: float | None = None
    path: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    verified_at: int | None = None
    offset: int = -1


USD = Worth(asset="USD", state="live", rate=1.0, bid=1.0, ask=1.0, conversion_bps=0.0)


class Rates:
    """The rates in force: one asset at a time in USD, never from a market that the rate itself converts.

    In this order: instruments against USD itself; one step over an asset that has such instruments. A pair of
    different kinds (EUR-USDT) tells what its base is worth and nothing about its quote, for its own edges are
    converted by that quote's rate; nor does any other market of things bought with dollars.
    """

    def __init__(
        self, kind: Callable[[str], str], *, depegged_bps: float, fixed: Mapping[str, float] | None = None
    ) -> None:
        self._kind = kind
        self._depegged_bps = depegged_bps
        self._sources: dict[str, Source] = {}
        self._fixed = {
            asset: Worth(asset=asset, state="assumed", rate=rate, bid=rate, ask=rate, conversion_bps=0.0)
            for asset, rate in sorted((fixed or {}).items())
        }
        self.worth: dict[str, Worth] = dict(self._fixed)

    def heard(self, source: Source, now: int) -> list[Worth]:
        """A source's newest quote; what changed its state by it, at once. Values change at full seconds only."""
        last = self._sources.get(source.instrument)
        silent = last is None or now - last.received_at > SESSION_LIMIT_US
        if last is not None and source.session < last.session and not silent:
            return []
        self._sources[source.instrument] = source
        if last is not None and last.live == source.live:
            return []
        return [worth for worth in self._now(now) if self._changes_state(worth)]

    def second(self, now: int) -> list[Worth]:
        """The rates of a full second, of every asset that something was heard of within a minute."""
        self._sources = {
            name: source
            for name, source in self._sources.items()
            if now - source.received_at <= SOURCE_LIMIT_US
        }
        rates = {worth.asset: worth for worth in self._now(now)}
        gone = [Worth(asset=asset, state="missing") for asset in self.worth if asset not in rates]
        self.worth = rates
        return sorted([*rates.values(), *gone], key=lambda worth: worth.asset)

    def _changes_state(self, worth: Worth) -> bool:
        known = self.worth.get(worth.asset)
        if known is not None and known.state == worth.state:
            return False
        self.worth[worth.asset] = worth
        return True

    def _now(self, now: int) -> list[Worth]:
        sources = [self._sources[name] for name in sorted(self._sources)]
        assets = sorted(
            {asset for s in sources for asset in (s.base, s.quote)} - {"USD"} - self._fixed.keys()
        )
        direct = {asset: self._direct(asset, sources, now) for asset in assets}
        first = {**{asset: worth for asset, worth in direct.items() if worth is not None}, **self._fixed}
        found = [
            first.get(asset)
            or self._over_one_step(asset, sources, first, now)
            or self._unknown(asset, sources)
            for asset in assets
        ]
        return [*self._fixed.values(), *(worth for worth in found if worth is not None)]

    def _direct(self, asset: str, sources: list[Source], now: int) -> Worth | None:
        found = [
            Worth(
                asset=asset,
                state="live",
                rate=(source.bid + source.ask) / 2,
                bid=source.bid,
                ask=source.ask,
                conversion_bps=_cost_bps(source),
                path=(source.instrument,),
                verified_at=source.verified_at,
                offset=source.offset,
            )
            for source in sources
            if source.base == asset and source.quote == "USD" and source.is_live(now)
            if source.bid is not None and source.ask is not None
        ]
        worth = _median(found)
        if worth is not None and self._kind(asset) == "USD":
            return self._judged(worth, worth.rate)
        return worth

    def _over_one_step(
        self, asset: str, sources: list[Source], first: Mapping[str, Worth], now: int
    ) -> Worth | None:
        found: list[Worth] = []
        parity: list[float] = []
        for source in sources:
            step = self._step(asset, source, first, now)
            if step is not None:
                found.append(step[0])
                parity.append(step[1])
        worth = _median(found)
        if worth is None:
            return None
        if self._kind(asset) == "USD":
            return self._judged(worth, worth.rate)
        same = [price for price in parity if price]
        return self._judged(worth, _middle(same)) if same else worth

    def _step(
        self, asset: str, source: Source, first: Mapping[str, Worth], now: int
    ) -> tuple[Worth, float] | None:
        """The asset over one instrument, and its price in the other asset where both are of one kind (else 0)."""
        if not source.is_live(now) or asset not in (source.base, source.quote):
            return None
        over = first.get(source.quote if asset == source.base else source.base)
        same = self._kind(source.base) == self._kind(source.quote)
        if over is None or (asset == source.quote and not same):
            return None
        bid, ask = source.bid, source.ask
        if bid is None or ask is None or over.rate is None or over.bid is None or over.ask is None:
            return None
        price = (bid + ask) / 2 if asset == source.base else 2 / (bid + ask)
        bid, ask = (bid, ask) if asset == source.base else (1 / ask, 1 / bid)
        worth = Worth(
            asset=asset,
            state="assumed" if over.state == "assumed" else "live",
            rate=price * over.rate,
            bid=bid * over.bid,
            ask=ask * over.ask,
            conversion_bps=_cost_bps(source) + (over.conversion_bps or 0.0),
            path=(source.instrument, *over.path),
            verified_at=_earlier(source.verified_at, over.verified_at),
            offset=max(source.offset, over.offset),
        )
        return worth, price if same else 0.0

    def _judged(self, worth: Worth, parity: float | None) -> Worth:
        if worth.state == "live" and parity is not None and abs(parity - 1) * 1e4 > self._depegged_bps:
            return replace(worth, state="depegged")
        return worth

    def _unknown(self, asset: str, sources: list[Source]) -> Worth | None:
        """Sources that were heard of and are not live make a rate stale; it has no number then."""
        offsets = [source.offset for source in sources if self._tells(asset, source)]
        return Worth(asset=asset, state="stale", offset=max(offsets)) if offsets else None

    def _tells(self, asset: str, source: Source) -> bool:
        return asset == source.base or (
            asset == source.quote and self._kind(source.base) == self._kind(source.quote)
        )


def worst(first: State, second: State) -> State:
    """The state of a number made of two rates."""
    return WORST_FIRST[min(WORST_FIRST.index(first), WORST_FIRST.index(second))]


def _cost_bps(source: Source) -> float:
    assert source.bid is not None
    assert source.ask is not None
    return 1e4 * (source.ask - source.bid) / (source.ask + source.bid) + source.taker_fee_bps


def _median(found: list[Worth]) -> Worth | None:
    """The middle one by rate; of two middle ones the mean, with the lower one's path and the older proof."""
    if not found:
        return None
    ordered = sorted(found, key=lambda worth: (worth.rate or 0.0, worth.path))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return replace(
        low,
        rate=_mean(low.rate, high.rate),
        bid=_mean(low.bid, high.bid),
        ask=_mean(low.ask, high.ask),
        sources=tuple(sorted({worth.path[0] for worth in found})),
        verified_at=_earlier(low.verified_at, high.verified_at),
        offset=max(worth.offset for worth in found),
        state=next((worth.state for worth in (low, high) if worth.state == "assumed"), low.state),
    )


def _mean(low: float | None, high: float | None) -> float | None:
    return low if low == high or low is None or high is None else (low + high) / 2


def _middle(values: list[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _earlier(first: int | None, second: int | None) -> int | None:
    return min((at for at in (first, second) if at is not None), default=None)
