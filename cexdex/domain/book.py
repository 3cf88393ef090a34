"""An order book: sorted prices with the best at the end of a list, sizes in a dict, and a ladder cut from them.

Measured against sorted containers, arrays and heaps on real frames, this is the fastest book in plain Python
(docs/decisions/0002): a level costs 0.3 µs. The ladder sums buckets of a fixed grid that does not move with the mid,
so that only buckets in which a level changed are summed again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from functools import lru_cache
from math import exp, floor, inf, log, nextafter

from cexdex.domain.ladder import LADDER_REACH_BPS

Level = tuple[float, float]
EXACT_LEVELS = 50
"""At least so many of the best levels stand in a ladder as they are."""
FINE_BPS = 50.0
"""So far from the mid a bucket is 1 bp wide; beyond, five together."""
COARSE = 5


class BookSide:
    """One side: `keys` ascending with the best last (an ask's key is its negated price), `sizes` by price."""

    __slots__ = ("_changed", "_coarse", "_fine", "keys", "sign", "sizes")

    def __init__(self, sign: float, levels: Iterable[Level] = ()) -> None:
        self.sign = sign
        self.sizes: dict[float, float] = {price: size for price, size in levels if size}
        self.keys: list[float] = sorted(sign * price for price in self.sizes)
        self._changed: set[float] = set()
        self._fine: dict[int, Level | None] = {}
        self._coarse: dict[int, Level | None] = {}

    def apply(self, levels: list[Level]) -> int:
        """Sets levels to absolute sizes, 0 removing one. Returns how many unknown levels were to be removed."""
        sizes, keys, sign = self.sizes, self.keys, self.sign
        orphans = 0
        self._changed.update(dict(levels))
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(keys, sign * price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del keys[bisect_left(keys, sign * price)]
            else:
                orphans += 1
        return orphans

    def truncate(self, depth: int) -> None:
        """Forgets what is beyond the best `depth` levels."""
        surplus = len(self.keys) - depth
        if surplus > 0:
            for key in self.keys[:surplus]:
                price = self.sign * key
                del self.sizes[price]
                self._changed.add(price)
            del self.keys[:surplus]

    @property
    def best(self) -> float | None:
        """The best price; None when the side is empty."""
        return self.sign * self.keys[-1] if self.keys else None

    @property
    def best_size(self) -> float:
        return self.sizes[self.sign * self.keys[-1]] if self.keys else 0.0

    @property
    def worst(self) -> float | None:
        return self.sign * self.keys[0] if self.keys else None

    def top(self, count: int) -> list[Level]:
        """The best `count` levels, best first."""
        sizes, sign = self.sizes, self.sign
        return [(price := sign * key, sizes[price]) for key in self.keys[: -count - 1 : -1]]

    def ladder(self, mid: float, limit: float) -> tuple[list[Level], int]:
        """This side's ladder around `mid`, and how many of its entries are single levels.

        limit: the worst price that is known (0 or inf when all is). Nothing beyond it is in the ladder.
        """
        self._forget_changed()
        sign, keys, sizes = self.sign, self.keys, self.sizes
        reach = mid * (1 - sign * LADDER_REACH_BPS / 1e4)
        last_key = max(sign * limit, sign * reach)
        exact = self._exact(last_key)
        rungs = [(price := sign * key, sizes[price]) for key in keys[: -exact - 1 : -1]]
        if exact == len(keys) or keys[-exact - 1] < last_key:
            return rungs, exact
        step = -1 if sign > 0 else 1  # a bid of bucket k is followed by k − 1, an ask by k + 1
        first, fine_end = bucket(rungs[-1][0]) + step, bucket(mid * (1 - sign * FINE_BPS / 1e4))
        # coarse from the first whole group of five buckets beyond FINE_BPS
        if sign > 0:
            coarse = min(first, fine_end - 1) // COARSE * COARSE + COARSE - 1
            coarse -= COARSE if coarse > min(first, fine_end - 1) else 0
        else:
            coarse = -(-max(first, fine_end + 1) // COARSE) * COARSE
        end = bucket(reach)
        if 0 < limit < inf:
            cut = bucket(limit)
            if (cut - coarse) * step < 0:  # known no further than the fine part
                self._add(rungs, range(first, cut, step), 1)
                self._add_part(rungs, cut, 1, limit)
                return rungs, exact
            if (cut // COARSE - end // COARSE) * step <= 0:
                self._add(rungs, range(first, coarse, step), 1)
                self._add(rungs, range(coarse // COARSE, cut // COARSE, step), COARSE)
                self._add_part(rungs, cut // COARSE * COARSE, COARSE, limit)
                return rungs, exact
        self._add(rungs, range(first, coarse, step), 1)
        self._add(rungs, range(coarse // COARSE, end // COARSE + step, step), COARSE)
        return rungs, exact

    def _exact(self, last_key: float) -> int:
        """How many levels stand as they are: EXACT_LEVELS and on to the end of their bucket, within the reach."""
        keys = self.keys
        count = min(EXACT_LEVELS, len(keys))
        if count < len(keys):
            k = bucket(self.sign * keys[-count])
            start = bisect_left(keys, edge(k)) if self.sign > 0 else bisect_right(keys, -edge(k + 1))
            count = len(keys) - start
        return min(count, len(keys) - bisect_left(keys, last_key))

    def _add(self, rungs: list[Level], indices: range, width: int) -> None:
        """The rungs of buckets, those that did not change since the last ladder as they were."""
        kept = self._fine if width == 1 else self._coarse
        for index in [index for index in indices if index not in kept]:
            value, size = self._sum(index * width, width, None)
            kept[index] = (value / size, size) if size else None
        rungs += [rung for index in indices if (rung := kept[index]) is not None]

    def _add_part(self, rungs: list[Level], k: int, width: int, limit: float) -> None:
        """The last bucket, as far as it is known."""
        value, size = self._sum(k, width, limit)
        if size:
            rungs.append((value / size, size))

    def _sum(self, k: int, width: int, limit: float | None) -> Level:
        """Cost and size of the levels in `width` buckets from k on, no worse than `limit`."""
        low, high = edge(k), edge(k + width)
        if self.sign > 0:
            first = low if limit is None else max(low, limit)
            start, end = bisect_left(self.keys, first), bisect_left(self.keys, high)
        else:
            start = bisect_right(self.keys, -high) if limit is None else bisect_left(self.keys, -limit)
            end = bisect_right(self.keys, -low)
        sign, sizes = self.sign, self.sizes
        value = total = 0.0
        for key in self.keys[start:end]:
            size = sizes[sign * key]
            value += sign * key * size
            total += size
        return value, total

    def _forget_changed(self) -> None:
        fine, coarse = self._fine, self._coarse
        if fine or coarse:
            for price in self._changed:
                k = bucket(price)
                fine.pop(k, None)
                coarse.pop(k // COARSE, None)
            if (
                len(fine) > 5_000
            ):  # the mid has wandered far: what is out of reach is summed again if it returns
                fine.clear()
                coarse.clear()
        self._changed.clear()


class OrderBook:
    """Both sides of one instrument."""

    __slots__ = ("asks", "bids")

    def __init__(self, bids: Iterable[Level] = (), asks: Iterable[Level] = ()) -> None:
        self.bids = BookSide(1.0, bids)
        self.asks = BookSide(-1.0, asks)

    def touch(self) -> tuple[float | None, float, float | None, float]:
        """Best bid and its size, best offer and its size; None and 0 of an empty side."""
        bid = ask = None
        bid_size = ask_size = 0.0
        if keys := self.bids.keys:
            bid = keys[-1]
            bid_size = self.bids.sizes[bid]
        if keys := self.asks.keys:
            ask = -keys[-1]
            ask_size = self.asks.sizes[ask]
        return bid, bid_size, ask, ask_size

    @property
    def mid(self) -> float | None:
        bid, ask = self.bids.best, self.asks.best
        return None if bid is None or ask is None else (bid + ask) / 2

    @property
    def crossed(self) -> bool:
        bids, asks = self.bids.keys, self.asks.keys
        return bool(bids and asks) and bids[-1] >= -asks[-1]


def bucket(price: float) -> int:
    """Index of a price on the fixed grid of 1 bp: floor(1e4 · ln price)."""
    return floor(1e4 * log(price))


@lru_cache(maxsize=65_536)
def edge(k: int) -> float:
    """The least price of bucket k, so that slicing by edges and `bucket` agree to the last bit."""
    price = exp(k / 1e4)
    while bucket(price) < k:
        price = nextafter(price, inf)
    while bucket(below := nextafter(price, 0)) >= k:
        price = below
    return price
