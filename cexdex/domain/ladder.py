"""What buying or selling a size costs: the one question every venue's depth answers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Literal, Protocol

Side = Literal["buy", "sell"]
Short = Literal["beyond_known_range", "insufficient_depth"]
LADDER_REACH_BPS = 200.0
"""How far from the mid a ladder goes (DATA §3)."""


class Depth(Protocol):
    """The liquidity of an instrument, in the market's orientation."""

    def vwap(self, side: Side, base: float) -> float | Short:
        """Average price in quote per base of taking `base` from this depth; why not, when it does not reach."""
        ...


class Ladder:
    """An exchange's depth: levels best first, known so far and no further.

    Sums are kept from the best level on, so that a VWAP is one bisection.
    """

    __slots__ = ("ask_reach", "asks", "bid_reach", "bids")

    def __init__(
        self,
        bids: list[tuple[float, float]],
        asks: list[tuple[float, float]],
        bids_complete_to_bps: float | None,
        asks_complete_to_bps: float | None,
    ) -> None:
        self.bids = _Rungs(bids, descending=True)
        self.asks = _Rungs(asks, descending=False)
        self.bid_reach = bids_complete_to_bps
        self.ask_reach = asks_complete_to_bps

    def under(self, bid: float | None, bid_size: float, ask: float | None, ask_size: float) -> TouchedLadder:
        """This ladder under a newer touch: what is better than it is gone, its own level has its published size."""
        return TouchedLadder(self, bid, bid_size, ask, ask_size)

    def vwap(self, side: Side, base: float) -> float | Short:
        if side == "buy":
            return self.asks.vwap(base) or short(self.ask_reach)
        return self.bids.vwap(base) or short(self.bid_reach)


class TouchedLadder:
    """A ladder seen under a touch that is newer than it (DATA §3)."""

    __slots__ = ("_ask", "_ask_from", "_ask_size", "_bid", "_bid_from", "_bid_size", "ladder")

    def __init__(
        self, ladder: Ladder, bid: float | None, bid_size: float, ask: float | None, ask_size: float
    ) -> None:
        self.ladder = ladder
        self._bid, self._bid_size = bid, bid_size
        self._ask, self._ask_size = ask, ask_size
        self._bid_from = ladder.bids.beyond(bid) if bid is not None else 0
        self._ask_from = ladder.asks.beyond(ask) if ask is not None else 0

    def vwap(self, side: Side, base: float) -> float | Short:
        if side == "buy":
            if self._ask is None:
                return "insufficient_depth"
            rungs, price, size, start, reach = (
                self.ladder.asks, self._ask, self._ask_size, self._ask_from, self.ladder.ask_reach,
            )  # fmt: skip
        else:
            if self._bid is None:
                return "insufficient_depth"
            rungs, price, size, start, reach = (
                self.ladder.bids, self._bid, self._bid_size, self._bid_from, self.ladder.bid_reach,
            )  # fmt: skip
        if base <= size:
            return price
        rest = rungs.cost(base - size, start)
        return short(reach) if rest is None else (price * size + rest) / base

    def size_to(self, side: Side, price: float) -> float:
        """Base resting between the touch and `price`, as far as the ladder goes."""
        if side == "buy":
            touch, size, rungs, start = self._ask, self._ask_size, self.ladder.asks, self._ask_from
            reached = touch is not None and touch <= price
        else:
            touch, size, rungs, start = self._bid, self._bid_size, self.ladder.bids, self._bid_from
            reached = touch is not None and touch >= price
        return size + rungs.size_to(price, start) if reached else 0.0


def short(reach_bps: float | None) -> Short:
    """Why a ladder that is known to `reach_bps` did not suffice."""
    known = reach_bps is not None and reach_bps >= LADDER_REACH_BPS
    return "insufficient_depth" if known else "beyond_known_range"


class _Rungs:
    """One side, best first, with running sums of size and cost."""

    __slots__ = ("_cost", "_keys", "_size", "prices", "sign", "sizes")

    def __init__(self, levels: list[tuple[float, float]], *, descending: bool) -> None:
        self.sign = -1.0 if descending else 1.0
        self.prices = [price for price, _ in levels]
        self.sizes = [size for _, size in levels]
        self._keys = [self.sign * price for price in self.prices]
        self._size = [0.0, *accumulate(self.sizes)]
        self._cost = [0.0, *accumulate(price * size for price, size in levels)]

    def beyond(self, price: float) -> int:
        """Index of the first level that is worse than `price`."""
        return bisect_right(self._keys, self.sign * price)

    def cost(self, base: float, start: int = 0) -> float | None:
        """Quote for taking `base` from level `start` on; None when the levels do not hold so much."""
        target = self._size[start] + base
        end = bisect_left(self._size, target, start)
        if end >= len(self._size):
            return None
        if end == start:
            return 0.0
        whole = end - 1
        return self._cost[whole] - self._cost[start] + (target - self._size[whole]) * self.prices[whole]

    def vwap(self, base: float) -> float | None:
        cost = self.cost(base)
        return None if cost is None or base <= 0 else cost / base

    def size_to(self, price: float, start: int = 0) -> float:
        """Base resting at `price` or better, from level `start` on."""
        return max(0.0, self._size[self.beyond(price)] - self._size[start])
