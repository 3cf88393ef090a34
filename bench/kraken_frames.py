"""A Kraken book that wanders, told in both of Kraken's protocols: v2 for us, v1 for a peer that speaks no other.

The recorded book is 251 frames of ten levels, too few to measure with; these are made to the same rules: absolute
sizes, a window of the subscribed depth, the level that comes back into it sent again, a CRC-32 over the best ten.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from random import Random

DEPTH = 500
TICK = 10
"""Prices stand for tenths of a dollar."""
TRADES_SHARE = 0.1
START_US = 1_790_000_000_000_000
STEP_US = 2_000


@dataclass
class Side:
    """`prices` with the best last, by `sign`; sizes in 1e-8."""

    sign: int
    prices: list[int] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)

    def put(self, price: int, size: int) -> None:
        if price not in self.sizes:
            insort(self.prices, self.sign * price)
        self.sizes[price] = size

    def take(self, price: int) -> None:
        del self.sizes[price]
        del self.prices[bisect_left(self.prices, self.sign * price)]

    def price(self, rank: int) -> int:
        """The price of the level so far behind the best."""
        return self.sign * self.prices[-1 - rank]


def frames(count: int, seed: int = 1) -> tuple[list[tuple[int, str, str]], int]:
    """Time, v2 text and v1 text of each frame, and how many of them only set the book up."""
    random = Random(seed)
    bids, asks = Side(1), Side(-1)
    middle = 650_000
    for rank in range(DEPTH + 300):
        bids.put(middle - 1 - rank * 3, _size(random))
        asks.put(middle + 1 + rank * 3, _size(random))
    now, trade_id = START_US, 1
    shown = {"b": _top(bids, DEPTH), "a": _top(asks, DEPTH)}
    acknowledged = (
        '{"method":"subscribe","result":{"channel":"book","depth":500,"snapshot":true,"symbol":"BTC/USD"},'
        '"success":true,"time_in":"2026-09-21T13:33:20.000000Z","time_out":"2026-09-21T13:33:20.000000Z"}'
    )
    made = [
        (now, acknowledged, '{"event":"systemStatus","status":"online"}'),
        (now, _v2("snapshot", shown, bids, asks, now), _v1_snapshot(shown, now)),
    ]
    while len(made) < count + 2:
        now += STEP_US
        if random.random() < TRADES_SHARE:
            made.append((now, *_trade(random, bids, asks, trade_id, now)))
            trade_id += 1
            continue
        changes: dict[str, list[tuple[int, int]]] = {"b": [], "a": []}
        for _ in range(random.choice((1, 2, 3))):
            letter = random.choice("ba")
            _change(random, bids if letter == "b" else asks, asks if letter == "b" else bids, changes[letter])
        if not changes["b"] and not changes["a"]:
            continue
        made.append((now, _v2("update", changes, bids, asks, now), _v1_update(changes, bids, asks, now)))
    return made, 2


def _change(random: Random, side: Side, other: Side, changes: list[tuple[int, int]]) -> None:
    rank = min(int(random.expovariate(0.25)), DEPTH // 2)
    what = random.random()
    if what < 0.6:
        price = side.price(rank)
    elif what < 0.8:
        price = side.price(rank) + random.choice((-2, -1, 1, 2))
        if (other.price(0) - price) * side.sign <= 0:
            return
    else:
        price = side.price(rank)
        if len(side.prices) > DEPTH + 50:
            side.take(price)
            changes.append((price, 0))
            # What comes back into the window is sent again.
            back = side.price(DEPTH - 1)
            changes.append((back, side.sizes[back]))
            return
    side.put(price, _size(random))
    if side.prices[-DEPTH] <= side.sign * price:
        changes.append((price, side.sizes[price]))


def _size(random: Random) -> int:
    return random.randrange(100_000, 300_000_000)


def _top(side: Side, count: int) -> list[tuple[int, int]]:
    return [(side.sign * key, side.sizes[side.sign * key]) for key in side.prices[: -count - 1 : -1]]


def _crc(bids: Side, asks: Side) -> int:
    text = "".join(f"{price}{size}" for side in (asks, bids) for price, size in _top(side, 10))
    return zlib.crc32(text.encode())


def _price(price: int) -> str:
    return f"{price // TICK}.{price % TICK}"


def _amount(size: int) -> str:
    return f"{size // 10**8}.{size % 10**8:08d}"


def _stamp(now: int) -> str:
    return f"{now // 10**6}.{now % 10**6:06d}"


def _iso(now: int) -> str:
    # Only the seconds matter to anybody who reads these frames; they stay within one hour.
    second = now // 10**6 - START_US // 10**6
    return f"2026-09-21T13:{second // 60:02d}:{second % 60:02d}.{now % 10**6:06d}Z"


def _v2(kind: str, changes: dict[str, list[tuple[int, int]]], bids: Side, asks: Side, now: int) -> str:
    def levels(letter: str) -> str:
        return ",".join(f'{{"price":{_price(p)},"qty":{_amount(s)}}}' for p, s in changes[letter])

    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{levels("b")}],'
        f'"asks":[{levels("a")}],"checksum":{_crc(bids, asks)},"timestamp":"{_iso(now)}"}}]}}'
    )


def _v1_levels(levels: list[tuple[int, int]], now: int) -> str:
    return ",".join(f'["{_price(p)}0000","{_amount(s)}","{_stamp(now)}"]' for p, s in levels)


def _v1_snapshot(shown: dict[str, list[tuple[int, int]]], now: int) -> str:
    bids, asks = _v1_levels(shown["b"], now), _v1_levels(shown["a"], now)
    return f'[336,{{"as":[{asks}],"bs":[{bids}]}},"book-{DEPTH}","XBT/USD"]'


def _v1_update(changes: dict[str, list[tuple[int, int]]], bids: Side, asks: Side, now: int) -> str:
    sides = [f'"{letter}":[{_v1_levels(changes[letter], now)}]' for letter in "ab" if changes[letter]]
    sides[-1] += f',"c":"{_crc(bids, asks)}"'
    told = ",".join(f"{{{side}}}" for side in sides)
    return f'[336,{told},"book-{DEPTH}","XBT/USD"]'


def _trade(random: Random, bids: Side, asks: Side, trade_id: int, now: int) -> tuple[str, str]:
    buys = random.random() < 0.5
    price, size = (asks if buys else bids).price(0), _size(random)
    side = "buy" if buys else "sell"
    v2 = (
        f'{{"channel":"trade","type":"update","data":[{{"symbol":"BTC/USD","side":"{side}","price":{_price(price)},'
        f'"qty":{_amount(size)},"ord_type":"market","trade_id":{trade_id},"timestamp":"{_iso(now)}"}}]}}'
    )
    v1 = f'[337,[["{_price(price)}0000","{_amount(size)}","{_stamp(now)}","{side[0]}","m",""]],"trade","XBT/USD"]'
    return v2, v1
