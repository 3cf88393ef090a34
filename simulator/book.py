"""A venue's own order book, in whole ticks and lots, which remembers what changed since it was last asked."""

from bisect import bisect_left, insort


class Side:
    """One side; the best price is the highest of bids and the lowest of asks."""

    __slots__ = ("changed", "is_bids", "prices", "sizes")

    def __init__(self, is_bids: bool) -> None:
        self.is_bids = is_bids
        self.prices: list[int] = []  # ascending
        self.sizes: dict[int, int] = {}
        self.changed: dict[int, int] = {}  # price -> size before

    def __len__(self) -> int:
        return len(self.prices)

    @property
    def best(self) -> int:
        return self.prices[-1 if self.is_bids else 0]

    def at(self, depth: int) -> int:
        """The price `depth` levels behind the best."""
        return self.prices[-1 - depth if self.is_bids else depth]

    def top(self, count: int) -> list[int]:
        """The best prices, best first."""
        return self.prices[: -count - 1 : -1] if self.is_bids else self.prices[:count]

    def put(self, price: int, size: int) -> None:
        """Set a level; size 0 removes it."""
        before = self.sizes.get(price, 0)
        if size == before:
            return
        self.changed.setdefault(price, before)
        if not before:
            insort(self.prices, price)
        if size:
            self.sizes[price] = size
        else:
            del self.prices[bisect_left(self.prices, price)]
            del self.sizes[price]

    def better_than(self, price: int) -> list[int]:
        if self.is_bids:
            return self.prices[bisect_left(self.prices, price + 1) :]
        return self.prices[: bisect_left(self.prices, price)]

    def worse_than(self, price: int) -> list[int]:
        if self.is_bids:
            return self.prices[: bisect_left(self.prices, price)]
        return self.prices[bisect_left(self.prices, price + 1) :]

    def between(self, better: int, worst: int | None) -> list[int]:
        """Prices behind `better`, as far as `worst` itself; None is to the end."""
        prices = self.prices
        if self.is_bids:
            return prices[0 if worst is None else bisect_left(prices, worst) : bisect_left(prices, better)]
        return prices[
            bisect_left(prices, better + 1) : None if worst is None else bisect_left(prices, worst + 1)
        ]

    def emptiness_around(self, price: int) -> int:
        """Ticks from `price` to the nearest level."""
        prices, index = self.prices, bisect_left(self.prices, price)
        below = price - prices[index - 1] if index else 1 << 60
        above = prices[index] - price if index < len(prices) else 1 << 60
        return below if below < above else above

    def take_changes(self) -> dict[int, int]:
        """Price to size before, of the levels that differ from when this was last called."""
        changes = {
            price: before for price, before in self.changed.items() if self.sizes.get(price, 0) != before
        }
        self.changed = {}
        return changes


class Book:
    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = Side(is_bids=True)
        self.asks = Side(is_bids=False)

    def touch(self) -> tuple[int, int, int, int]:
        """Best bid, its size, best ask, its size."""
        bid, ask = self.bids.best, self.asks.best
        return bid, self.bids.sizes[bid], ask, self.asks.sizes[ask]
