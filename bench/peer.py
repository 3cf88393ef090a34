"""cryptofeed over the frames of a case, in a Python that has it: `python bench/peer.py CASE [check]`.

Its exchange class's own message handler is given the frames, with callbacks for books and trades that read the best bid
and offer. Prints the processor seconds, or with `check` the best bid and offer after each frame with a book.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptofeed.defines import L2_BOOK, TRADES  # type: ignore[import-not-found]
from cryptofeed.exchanges import Binance, Coinbase, Kraken  # type: ignore[import-not-found]
from cryptofeed.symbols import Symbols  # type: ignore[import-not-found]

EXCHANGES = {"binance": Binance, "coinbase": Coinbase, "kraken": Kraken}


class Answers:
    """Its REST side, which has the case's snapshots."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers

    async def read(self, url: str, **_: Any) -> str:
        return self._answers[parse_qs(urlsplit(url).query)["symbol"][0]]


async def once(case: dict[str, Any], seen: list[Any] | None) -> float:
    touch: tuple[Any, Any] = (None, None)
    symbol = ""

    async def on_book(book: Any, _: float) -> None:
        nonlocal touch, symbol
        bids, asks = book.book.bids, book.book.asks
        if len(bids) and len(asks):
            touch = bids.index(0)[0], asks.index(0)[0]
            symbol = book.symbol

    async def on_trade(trade: Any, _: float) -> None:
        pass

    exchange = EXCHANGES[case["venue"]]
    settings = {"max_depth": case["depth"]} if case["depth"] else {}
    feed = exchange(
        symbols=list(case["symbols"]),
        channels=[L2_BOOK, TRADES],
        callbacks={L2_BOOK: on_book, TRADES: on_trade},
        **settings,
    )
    feed.http_conn = Answers(case["answers"])
    handler = feed.message_handler
    frames = [(text, t / 1e6) for t, _, text in case["frames"]]
    warm = case["warm"]
    for text, t in frames[:warm]:
        await handler(text, None, t)
    start = time.process_time()
    if seen is None:
        for text, t in frames[warm:]:
            await handler(text, None, t)
    else:
        for number, (text, t) in enumerate(frames[warm:], warm):
            symbol = ""
            await handler(text, None, t)
            if symbol:
                seen.append((number, symbol, float(touch[0]), float(touch[1])))
    return time.process_time() - start


def main() -> None:
    logging.disable(logging.CRITICAL)
    with open(sys.argv[1]) as stream:
        case = json.load(stream)
    for frame in case["frames"]:
        if frame[2] is None:
            frame[2] = frame[1]
    Symbols.set(EXCHANGES[case["venue"]].id, case["symbols"], {"instrument_type": {}})
    gc.collect()
    gc.freeze()
    if sys.argv[2:] == ["check"]:
        seen: list[Any] = []
        asyncio.run(once(case, seen))
        print(json.dumps(seen))
    else:
        print(sum(asyncio.run(once(case, None)) for _ in range(case["passes"])))


main()
