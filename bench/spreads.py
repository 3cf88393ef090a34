"""Touch spreads out of Kafka's bytes: what one core does with the quotes of a market of ten venues.

A partition with its processors is given the values; all edges, validity and everything else that a market's quotes lead
to is included, publishing is not. Then again with ladders, so that three notionals are computed on each quote.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from unittest.mock import patch

from bench.figures import Figure, tell
from bench.market import FEES_BPS, Market, references
from cexdex.config import Config, load
from cexdex.records.record import encode
from processors.processor import Make, discover
from processors.worker import Partition

VENUES = 10
START = 1_790_000_000_000_000
STEP_US = 1_000
SECOND_US = 1_000_000
CHUNK = 100
DEAR_BPS = (60.0,)


def measure(*, quotes: int = 20_000, repeat: int = 3) -> None:
    config = load(overrides={"rules": [], "topics": {"partitions": 1}, "markets": ["BTC-USD"]})
    alone = {name: make for name, make in discover().items() if name == "spreads"}
    runs: dict[str, Callable[[], tuple[float, Counter[str]]]] = {
        "calm": lambda: once(config, alone, quotes, fees=DEAR_BPS),
        "busy": lambda: once(config, alone, quotes),
        "ladders": lambda: once(config, alone, quotes // 2, ladders=True),
        "all": lambda: once(config, discover(), quotes),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    said: dict[str, Counter[str]] = {}
    for _ in range(repeat):
        for name, run in runs.items():
            seconds, said[name] = run()
            rates[name].append(1 / seconds)
    tell(
        f"spreads: quote updates a second on one core, {VENUES} venues of one market, from Kafka's bytes",
        [
            Figure("every edge computed, none worth saying", rates["calm"], "/s", 100_000),
            Figure("the same with edges worth saying, their records made", rates["busy"], "/s"),
            Figure("the same with ladders and three notionals", rates["ladders"], "/s", 20_000),
            Figure("every processor, edges worth saying, no ladders", rates["all"], "/s"),
        ],
        [
            f"spreads a quote: {said['calm']['spreads'] / quotes:.2f}, {said['busy']['spreads'] / quotes:.2f},"
            f" {said['ladders']['spreads'] / (quotes // 2):.2f}, {said['all']['spreads'] / quotes:.2f}"
        ],
    )


def once(
    config: Config,
    makes: dict[str, Make],
    quotes: int,
    *,
    ladders: bool = False,
    fees: Sequence[float] = FEES_BPS,
) -> tuple[float, Counter[str]]:
    """Seconds a quote, and what came out."""
    session = START - 10 * SECOND_US
    market = Market("BTC", VENUES, session, 1, fees)
    with patch("processors.worker.discover", lambda: makes):
        partition = Partition(0, 1, config)
    said: Counter[str] = Counter()
    small = offset = 0
    for listing in market.listings(session):
        said.update(type(out).__name__ for out in partition.known(listing, "instruments", small))
        small += 1
    used, counted = 0.0, 0
    for n in range(quotes // CHUNK):
        begin = START + n * CHUNK * STEP_US
        if begin % SECOND_US == 0:
            for reference in references(begin - SECOND_US, session):
                list(partition.known(reference, "reference_quotes", small))
                small += 1
        values = [encode(market.next_quote(begin + k * STEP_US + 1)) for k in range(CHUNK)]
        appended = begin + CHUNK * STEP_US
        start = time.process_time()
        for value in values:
            for output in partition.receive(value, offset, appended):
                said[str(type(output).__struct_config__.tag)] += 1
            offset += 1
        # Before that the legs are quoted for the first time and the rates become known.
        if n >= quotes // CHUNK // 10:
            used += time.process_time() - start
            counted += CHUNK
        if ladders:
            for book in market.books(appended):
                if book.bids[0][0] > 0:
                    list(partition.receive(encode(book), offset, appended))
                    offset += 1
    return used / counted, said


if __name__ == "__main__":
    measure()
