"""The best of all venues, in USD."""

from __future__ import annotations

from typing import Any

import pytest

from cexdex.domain.murmur2 import phase_of
from processors.consolidated import ConsolidatedQuote
from tests.processors.market import T0, S, booked, config, listed, quoted, rated

NAMES = ("kraken:BTC-USD", "coinbase:BTC-USD", "binance:BTC-USDT")
OWN_POINT = T0 + phase_of("BTC-USD") * 100_000


def consolidated(*quotes: Any, fees: tuple[float, float, float] = (0, 0, 0)) -> Any:
    """What is said at the next point after these."""
    processor = ConsolidatedQuote("BTC-USD", config())
    for name, fee in zip(NAMES, fees, strict=True):
        list(processor.on(listed(name, fee=fee), 0, T0))
    list(processor.on(rated("USDT", 0.999, T0), 0, T0))
    for record in quotes:
        list(processor.on(record, 1, T0))
    [said] = processor.on_time(T0 + 100_000, 9)
    return said


def test_locked_and_crossed_as_in_the_worked_example() -> None:
    touches = [(10.00, 10.02), (10.01, 10.01)]
    locked = consolidated(*(quoted(n, b, a, T0) for n, (b, a) in zip(NAMES, touches, strict=False)))
    assert (locked.bid_usd, locked.ask_usd, locked.status) == (10.01, 10.01, "locked")
    assert (locked.bid_instrument, locked.ask_instrument) == (NAMES[1], NAMES[1])
    crossed = consolidated(quoted(NAMES[0], 10.01, 10.02, T0), quoted(NAMES[1], 9.99, 10.005, T0))
    assert (crossed.status, crossed.bid_instrument, crossed.ask_instrument) == ("crossed", NAMES[0], NAMES[1])
    assert crossed.mid_usd == pytest.approx(10.0075)
    assert crossed.spread_bps == pytest.approx(-1e4 * 0.005 / 10.0075)


def test_prices_are_compared_in_usd() -> None:
    said = consolidated(quoted(NAMES[0], 100.0, 100.2, T0), quoted(NAMES[2], 100.05, 100.25, T0))
    assert (said.bid_usd, said.bid_instrument) == (100.0, NAMES[0])
    assert (said.ask_usd, said.ask_instrument) == (pytest.approx(100.25 * 0.999), NAMES[2])
    assert (said.status, said.venues) == ("normal", 2)


def test_the_best_price_after_fees_may_be_another_venues() -> None:
    said = consolidated(
        quoted(NAMES[0], 100.0, 100.1, T0), quoted(NAMES[1], 100.05, 100.05, T0), fees=(10, 40, 0)
    )
    assert (said.bid_instrument, said.net_bid_instrument) == (NAMES[1], NAMES[0])
    assert said.net_bid_usd == pytest.approx(100.0 * 0.999)
    assert (said.ask_instrument, said.net_ask_instrument) == (NAMES[1], NAMES[0])
    assert said.net_ask_usd == pytest.approx(100.1 * 1.001)


def test_what_cannot_be_believed_takes_no_part() -> None:
    said = consolidated(
        quoted(NAMES[0], None, None, T0, state="syncing", reason="gap"), quoted(NAMES[1], 99.0, 99.1, T0)
    )
    assert (said.bid_usd, said.venues) == (99.0, 1)
    nothing = consolidated()
    assert (nothing.bid_usd, nothing.ask_usd, nothing.mid_usd, nothing.status) == (None, None, None, "empty")


def test_depth_is_of_all_ladders_or_unknown() -> None:
    quotes = (quoted(NAMES[0], 99.99, 100.01, T0), quoted(NAMES[1], 99.98, 100.02, T0))
    first = booked(NAMES[0], [(99.99, 2.0), (99.9, 3.0), (99.89, 50.0)], [(100.01, 1.0)], T0)
    second = booked(NAMES[1], [(99.98, 1.0), (99.95, 4.0)], [(100.02, 1.5), (100.2, 7.0)], T0)
    said = consolidated(*quotes, first, second)
    assert said.bid_depth_10bps == pytest.approx(1.0 + 3.0 + 1.0 + 4.0)
    assert said.ask_depth_10bps == pytest.approx(1.0 + 1.0)
    assert consolidated(*quotes, first).bid_depth_10bps is None


def test_it_is_said_at_a_point_when_it_changed_and_at_its_own() -> None:
    processor = ConsolidatedQuote("BTC-USD", config())
    list(processor.on(listed(NAMES[0]), 0, T0))
    said = []
    at = OWN_POINT + 100_000
    for number in range(190):
        now = at + number * 100_000
        if number % 8 == 0:
            bid = 99.0 if number < 40 else 99.5
            assert list(processor.on(quoted(NAMES[0], bid, 100.0, now - 50_000), number, now)) == []
        said += processor.on_time(now, number)
    assert [(s.received_at - at, s.bid_usd) for s in said] == [
        (0, 99.0),
        (4 * S, 99.5),
        (10 * S - 100_000, 99.5),
    ]


def test_silence_changes_it_too() -> None:
    processor = ConsolidatedQuote("BTC-USD", config())
    list(processor.on(listed(NAMES[0]), 0, T0))
    start = OWN_POINT + 100_000
    list(processor.on(quoted(NAMES[0], 99.0, 100.0, start), 1, start))
    said = [s for n in range(1, 40) for s in processor.on_time(start + n * 100_000, 1)]
    assert [(s.received_at - start, s.status) for s in said] == [(100_000, "normal"), (3_100_000, "empty")]
