"""The seeded model behind all venues: one efficient price per asset, and each venue's book following it in its own way.

The same seed and rate give the same changes in the same order. Time is the model's own: each `step` is 5 ms.
"""

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from simulator.book import Book, Side
from simulator.listings import LAG_US, LISTINGS, Listing
from simulator.plants import Planner, Plant

STEP_US = 5_000
_DEPTH_WINDOW_US = 100_000
_TRADES_WINDOW_US = 250_000
_RECENT_TRADES = 1_000

# Start and mean, relative volatility per square root of a second, pull towards the mean per second, bounds.
_ASSETS: dict[str, tuple[float, float, float, float, float]] = {
    "BTC": (100_000.0, 0.9e-4, 0.002, 50_000.0, 200_000.0),
    "ETH": (3_500.0, 1.2e-4, 0.002, 1_750.0, 7_000.0),
    "USDT": (0.9996, 0.05e-4, 0.003, 0.9990, 1.0005),
    "USDC": (0.99995, 0.03e-4, 0.003, 0.9990, 1.0005),
}


@dataclass(frozen=True, slots=True)
class Fill:
    """A taker meets one maker."""

    trade_id: int
    price: int
    size: int
    taker_buys: bool
    at: int


@dataclass(slots=True)
class Change:
    """What happened on one instrument at one moment. A level's new size is in the book; 0 means removed."""

    listing: Listing
    at: int
    bids: dict[int, int]  # price -> size before; equal to the size now only for a delete of an unknown level
    asks: dict[int, int]
    fills: list[Fill]
    touch_moved: bool
    frames: int
    """How many frames its venue's standard feed gives for it."""


@dataclass(slots=True)
class Quoting:
    """A venue's state for one instrument."""

    listing: Listing
    book: Book
    fair: float
    followed_at: int
    noise_bps: float = 0.0
    factor: float = 1.0
    trade_id: int = 0
    events: int = 0
    crossed_until: int = 0
    depth_window: int = -1
    trades_window: int = -1
    recent: deque[Fill] = field(default_factory=lambda: deque(maxlen=_RECENT_TRADES))


class Market:
    def __init__(self, seed: int, rate: float, started_at: int = 0, spreads: bool = True) -> None:
        self.seed = seed
        self.rate = rate
        # A whole second, so that the venues' batch windows fall alike whenever it starts.
        self.now = self.started_at = started_at - started_at % 1_000_000
        self._random = random.Random(seed)
        self._usd = {"USD": 1.0} | {asset: values[0] for asset, values in _ASSETS.items()}
        self.quoting = {listing.instrument: self._opening(listing) for listing in LISTINGS}
        self._weights = [listing.weight for listing in LISTINGS]
        self._budget = 0.0
        self._planners = self._planned_markets() if spreads else []
        self._coming: dict[str, Plant] = {planner.market: planner.plan() for planner in self._planners}
        self._open: list[Plant] = []
        self._crossings: list[tuple[str, int]] = []
        self.ended: list[Plant] = []

    def step(self) -> Iterator[Change]:
        """All that happens in the next 5 ms, one after the other: the books are as each change left them."""
        start, self.now = self.now, self.now + STEP_US
        self._drift()
        # A burst is paid back by the steps after it; a pause is not saved up.
        allowance = self.rate * STEP_US / 1e6
        self._budget = min(self._budget + allowance, max(allowance, 1.0))
        for change in chain(self._crossed_now(start), self._spreads_now(start)):
            self._budget -= change.frames
            yield change
        # Many a change gives no frame of its own: a busy Binance book moves a dozen times within one depth frame.
        pace = STEP_US // (4 * int(allowance) + 8)
        at = start
        while self._budget > 0 and at + pace < self.now:
            at += pace
            listing = self._random.choices(LISTINGS, self._weights)[0]
            change = self._event(self.quoting[listing.instrument], at)
            self._budget -= change.frames
            yield change

    def book(self, instrument: str) -> Book:
        return self.quoting[instrument].book

    def skip(self, duration: int) -> None:
        """Leave out so many microseconds: the process was suspended."""
        self.now += duration

    def usd(self, asset: str) -> float:
        return self._usd[asset]

    def cross(self, instrument: str, seconds: float) -> None:
        """Have the venue publish a crossed book, from the next step, for so long."""
        self._crossings.append((instrument, int(seconds * 1e6)))

    def close(self) -> list[Plant]:
        """The spreads still open when everything stops."""
        still_open, self._open = self._open, []
        return still_open

    # The efficient prices

    def _drift(self) -> None:
        gauss = self._random.gauss
        seconds = STEP_US / 1e6
        root = math.sqrt(seconds)
        for asset, (mean, volatility, pull, low, high) in _ASSETS.items():
            price = self._usd[asset]
            price += price * (volatility * root * gauss(0, 1)) + pull * seconds * (mean - price)
            self._usd[asset] = min(max(price, low), high)

    def _efficient(self, listing: Listing) -> float:
        return self._usd[listing.base] / self._usd[listing.quote]

    # Planted spreads

    def _planned_markets(self) -> list[Planner]:
        """From a randomness of their own: the same spreads come at every rate."""
        planners = []
        for market, earliest, latest in (("BTC-USD", 3.0, 5.0), ("ETH-USD", 5.0, 8.0)):
            rng = random.Random(f"{self.seed} {market}")
            planners.append(Planner(market, self.started_at + int(rng.uniform(earliest, latest) * 1e6), rng))
        return planners

    def _spreads_now(self, at: int) -> Iterator[Change]:
        for plant in [plant for plant in self._open if plant.ends_at <= at]:
            yield self._end(plant, at)
        for planner in self._planners:
            plant = self._coming[planner.market]
            if plant.starts_at <= at:
                self._coming[planner.market] = planner.plan()
                yield self._begin(plant, at)
        if at % _DEPTH_WINDOW_US == 0:
            for plant in self._open:
                plant.observed.append(self._spread_bps(plant))

    def _begin(self, plant: Plant, at: int) -> Change:
        leading = self.quoting[plant.leader.instrument]
        leading.factor = plant.factor
        change = self._quotes(leading, at)
        plant.started_at = at
        plant.size = self._touch_size(plant)
        self._open.append(plant)
        return change

    def _end(self, plant: Plant, at: int) -> Change:
        leading = self.quoting[plant.leader.instrument]
        leading.factor = 1.0
        self._open.remove(plant)
        plant.ends_at = at
        self.ended.append(plant)
        fills = self._take(leading, plant.leader is plant.buy, at, levels=4) if plant.taken else []
        return self._quotes(leading, at, fills)

    def _spread_bps(self, plant: Plant) -> float:
        bid = self.quoting[plant.sell.instrument].book.bids.best / plant.sell.price_scale
        ask = self.quoting[plant.buy.instrument].book.asks.best / plant.buy.price_scale
        return 1e4 * (bid * self._usd[plant.sell.quote] / (ask * self._usd[plant.buy.quote]) - 1)

    def _touch_size(self, plant: Plant) -> float:
        bids, asks = (
            self.quoting[plant.sell.instrument].book.bids,
            self.quoting[plant.buy.instrument].book.asks,
        )
        bid_size = bids.sizes[bids.best] / plant.sell.size_scale
        ask_size = asks.sizes[asks.best] / plant.buy.size_scale
        return round(min(bid_size, ask_size), 8)

    def _crossed_now(self, at: int) -> Iterator[Change]:
        crossings, self._crossings = self._crossings, []
        for instrument, duration in crossings:
            quoting = self.quoting[instrument]
            quoting.crossed_until = at + duration
            book = quoting.book
            book.bids.put(book.asks.best + 2, self._size(quoting.listing, 0.0))
            yield self._changed(quoting, at, [], touch_moved=True)

    # What a venue's participants do

    def _event(self, quoting: Quoting, at: int) -> Change:
        if at < quoting.crossed_until:
            before = quoting.book.touch()
            self._deeper(quoting)
            return self._changed(quoting, at, [], touch_moved=quoting.book.touch() != before)
        if self._random.random() < 0.14:
            fills = self._take(quoting, self._random.random() < 0.5, at, levels=3)
            return self._changed(quoting, at, fills, touch_moved=True)
        return self._quotes(quoting, at)

    def _quotes(self, quoting: Quoting, at: int, fills: list[Fill] | None = None) -> Change:
        """Makers follow the price, and change their minds further back."""
        before = quoting.book.touch()
        self._follow(quoting, at)
        self._deeper(quoting)
        return self._changed(
            quoting, at, fills or [], touch_moved=bool(fills) or quoting.book.touch() != before
        )

    def _changed(self, quoting: Quoting, at: int, fills: list[Fill], touch_moved: bool) -> Change:
        listing, book = quoting.listing, quoting.book
        bids, asks = book.bids.take_changes(), book.asks.take_changes()
        if listing.deletes_unknown_levels and self._random.random() < 0.03:
            unknown = book.bids.best - self._random.randrange(1, 1 + int(book.bids.best * 200 / 1e4))
            if unknown not in book.bids.sizes:
                bids.setdefault(unknown, 0)
        change = Change(listing, at, bids, asks, fills, touch_moved, 0)
        change.frames = self._frames(quoting, change)
        return change

    def _frames(self, quoting: Quoting, change: Change) -> int:
        depth_window, trades_window = change.at // _DEPTH_WINDOW_US, change.at // _TRADES_WINDOW_US
        levels = bool(change.bids or change.asks)
        match quoting.listing.venue:
            case "binance":
                first = levels and depth_window != quoting.depth_window
                if first:
                    quoting.depth_window = depth_window
                return first + change.touch_moved + len(change.fills)
            case "coinbase":
                first = bool(change.fills) and trades_window != quoting.trades_window
                if first:
                    quoting.trades_window = trades_window
                return levels + first
            case _:
                return levels + bool(change.fills)

    def _follow(self, quoting: Quoting, at: int) -> None:
        """Bring the touch to where the venue now sees the price, if it has moved enough to bother."""
        listing, book = quoting.listing, quoting.book
        quoting.events += 1
        jumped_bps = self._see(quoting, at)
        bid, ask, slack = self._wanted(quoting)
        self._move(listing, book.bids, bid, bid + slack, bid - slack)
        self._move(listing, book.asks, ask, ask - slack, ask + slack)
        if jumped_bps > 3.0 or quoting.events % 150 == 0:
            self._refill(listing, book.bids)
            self._refill(listing, book.asks)

    def _see(self, quoting: Quoting, at: int) -> float:
        """The venue's view of the price, late and a little wrong; returns how far the touch will jump."""
        listing = quoting.listing
        elapsed = at - quoting.followed_at
        quoting.followed_at = at
        quoting.fair += (1 - math.exp(-elapsed / LAG_US[listing.venue])) * (
            self._efficient(listing) - quoting.fair
        )
        quoting.noise_bps += 0.1 * (self._random.gauss(0, 0.5 * listing.half_spread_bps) - quoting.noise_bps)
        mid = (quoting.book.bids.best + quoting.book.asks.best) / 2 / listing.price_scale
        return abs(self._mid(quoting) / mid - 1) * 1e4

    def _mid(self, quoting: Quoting) -> float:
        return quoting.fair * quoting.factor * (1 + quoting.noise_bps / 1e4)

    def _wanted(self, quoting: Quoting) -> tuple[int, int, int]:
        """Best bid, best ask and the ticks that either may be off."""
        ticks = self._mid(quoting) * quoting.listing.price_scale
        half = ticks * quoting.listing.half_spread_bps / 1e4
        bid = math.floor(ticks - half)
        return bid, max(math.ceil(ticks + half), bid + 1), int(half / 2)

    def _move(self, listing: Listing, side: Side, wanted: int, best: int, worst: int) -> None:
        for price in side.better_than(best):
            side.put(price, 0)
        if not side.prices or (side.best < worst if side.is_bids else side.best > worst):
            side.put(wanted, self._size(listing, 0.0))

    def _deeper(self, quoting: Quoting) -> None:
        rng, listing = self._random, quoting.listing
        for _ in range(rng.randrange(1, 5)):
            side = quoting.book.bids if rng.random() < 0.5 else quoting.book.asks
            count = len(side)
            depth = int(rng.expovariate(1 / 12)) if rng.random() < 0.9 else rng.randrange(count)
            depth = min(depth, count - 2)
            price = side.at(depth)
            distance_bps = abs(price / side.best - 1) * 1e4
            choice = rng.random()
            if choice < 0.6:
                side.put(price, self._size(listing, distance_bps))
            elif depth and choice < (0.9 if count > listing.levels else 0.75):
                side.put(price, 0)
            else:
                low, high = sorted((price, side.at(depth + 1)))
                side.put(rng.randint(low, high), self._size(listing, distance_bps))

    def _take(self, quoting: Quoting, taker_buys: bool, at: int, levels: int) -> list[Fill]:
        """A taker eats from the touch; a level may be several makers."""
        rng, listing = self._random, quoting.listing
        side = quoting.book.asks if taker_buys else quoting.book.bids
        wanted = self._lots(listing, 1_500 * math.exp(rng.gauss(0, 1.2)))
        fills: list[Fill] = []
        for price in side.top(levels):
            size = min(wanted, side.sizes[price])
            wanted -= size
            side.put(price, side.sizes[price] - size)
            first = size // 3 if size > 3 and rng.random() < 0.3 else 0
            for part in (first, size - first):
                if part:
                    quoting.trade_id += 1
                    fills.append(Fill(quoting.trade_id, price, part, taker_buys, at))
            if not wanted:
                break
        quoting.recent.extend(fills)
        return fills

    # Books as they are made

    def _opening(self, listing: Listing) -> Quoting:
        quoting = Quoting(listing, Book(), self._efficient(listing), self.now)
        quoting.trade_id = 1_000_000 + self._random.randrange(1_000_000)
        bid, ask, _ = self._wanted(quoting)
        for side, best in ((quoting.book.bids, bid), (quoting.book.asks, ask)):
            side.put(best, self._size(listing, 0.0))
            self._refill(listing, side)
            side.take_changes()
        for back in range(100, 0, -1):
            taker_buys = self._random.random() < 0.5
            price = ask if taker_buys else bid
            quoting.trade_id += 1
            size = self._lots(listing, 1_500 * math.exp(self._random.gauss(0, 1.2)))
            quoting.recent.append(Fill(quoting.trade_id, price, size, taker_buys, self.now - back * 400_000))
        return quoting

    def _refill(self, listing: Listing, side: Side) -> None:
        """Levels dense near the touch and sparse far out, wherever there are none; what is left behind is dropped."""
        best, outward = side.best, -1 if side.is_bids else 1
        before = 0
        for distance in self._distances(listing, best):
            spacing, before = distance - before, distance
            price = best + outward * distance
            if side.emptiness_around(price) > spacing:
                jitter = self._random.randrange(spacing // 2 + 1)
                side.put(price - outward * jitter, self._size(listing, distance / best * 1e4))
        for price in side.worse_than(best + outward * int(best * listing.reach_bps * 1.25 / 1e4)):
            side.put(price, 0)

    def _distances(self, listing: Listing, best: int) -> list[int]:
        reach = best * listing.reach_bps / 1e4
        steep = 3.0
        scale = reach / math.expm1(steep)
        ticks = (int(scale * math.expm1(steep * i / listing.levels)) for i in range(1, listing.levels + 1))
        return sorted({distance for distance in ticks if distance > 0})

    def _size(self, listing: Listing, distance_bps: float) -> int:
        depth = 1 + min(distance_bps, 100) / 50
        return self._lots(listing, listing.level_usd * depth * math.exp(self._random.gauss(0, 0.6)))

    def _lots(self, listing: Listing, usd: float) -> int:
        return max(1, int(usd / self._usd[listing.base] * listing.size_scale))
