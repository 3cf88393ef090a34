"""Candles of what was seen in time."""

from __future__ import annotations

from typing import Any

import pytest

from processors.candles import Candles
from tests.processors.market import T0 as TEN_SECONDS
from tests.processors.market import S, config, listed, rated, traded

T0 = TEN_SECONDS + 40 * S
"""A full minute."""
A, B = "kraken:BTC-USD", "binance:BTC-USDT"


def candles(*records: Any, until: int = 70) -> tuple[dict[tuple[str, str, int], Any], Candles]:
    """By instrument, interval and second of T0 at which it began."""
    processor = Candles("BTC-USD", config())
    for listing in (listed(A), listed(B)):
        list(processor.on(listing, 0, T0 - S))
    found = {}
    waiting = sorted(records, key=lambda record: record.received_at)
    for now in range(T0, T0 + until * S + 1, 100_000):
        while waiting and waiting[0].received_at < now:
            record = waiting.pop(0)
            assert list(processor.on(record, 3, record.received_at)) == []
        for candle in processor.on_time(now, 3):
            length = S if candle.interval == "1s" else 60 * S
            assert candle.received_at == candle.started_at + length + 5 * S
            found[candle.instrument, candle.interval, (candle.started_at - T0) // S] = candle
    return found, processor


def test_open_high_low_close_by_event_time() -> None:
    found, _ = candles(
        traded(A, "2", 103.0, 2.0, T0 + 300_000, taker_side="sell"),
        traded(A, "1", 100.0, 1.0, T0 + 400_000, event_time=T0 + 100_000),
        traded(A, "3", 99.0, 1.0, T0 + 500_000),
        traded(A, "4", 101.0, 4.0, T0 + 1_500_000, event_time=T0 + 999_999),
        traded(A, "5", 500.0, 1.0, T0 + 1_000_000),
    )
    candle = found[A, "1s", 0]
    assert (candle.open, candle.high, candle.low, candle.close) == (100.0, 103.0, 99.0, 101.0)
    assert (candle.volume, candle.buy_volume, candle.trades) == (8.0, 6.0, 4)
    assert candle.quote_volume == 100.0 + 206.0 + 99.0 + 404.0
    assert candle.vwap == pytest.approx(809 / 8)
    assert found[A, "1s", 1].open == 500.0
    assert (found[A, "1m", 0].trades, found[A, "1m", 0].close) == (5, 500.0)


def test_a_second_without_a_trade_has_no_candle() -> None:
    found, _ = candles(traded(A, "1", 1.0, 1.0, T0 + S))
    assert {key for key in found if key[1] == "1s"} == {(A, "1s", 1), ("", "1s", 1)}


def test_the_market_in_usd_at_the_rate_of_the_moment() -> None:
    found, processor = candles(
        traded(B, "0", 90.0, 1.0, T0 + 50_000),
        rated("USDT", 0.5, T0 + 100_000),
        traded(B, "1", 100.0, 2.0, T0 + 200_000),
        traded(A, "1", 60.0, 1.0, T0 + 300_000),
    )
    candle = found["", "1s", 0]
    assert (candle.open, candle.close, candle.volume) == (50.0, 60.0, 3.0)
    assert candle.quote_volume == pytest.approx(100.0 + 60.0)
    assert found[B, "1s", 0].trades == 2
    assert processor.counts["candle_no_rate"] == 2


def test_a_bust_takes_its_trade_away() -> None:
    found, _ = candles(
        traded(A, "1", 100.0, 1.0, T0 + 100_000),
        traded(A, "2", 999.0, 1.0, T0 + 200_000),
        traded(A, "2", 999.0, 1.0, T0 + 2 * S, event_time=T0 + 200_000, action="bust", revision=1),
        traded(A, "3", 5.0, 1.0, T0 + 3 * S),
        traded(A, "3", 5.0, 1.0, T0 + 4 * S, event_time=T0 + 3 * S, action="bust", revision=1),
    )
    assert (found[A, "1s", 0].high, found[A, "1s", 0].trades) == (100.0, 1)
    assert (A, "1s", 3) not in found


def test_what_comes_after_the_closing_is_counted() -> None:
    found, processor = candles(
        traded(A, "1", 100.0, 1.0, T0 + 100_000),
        traded(A, "2", 200.0, 1.0, T0 + 5_999_999, event_time=T0),
        traded(A, "3", 300.0, 1.0, T0 + 6 * S, event_time=T0),
    )
    assert found[A, "1s", 0].trades == 2
    assert found[A, "1m", 0].trades == 3
    assert processor.counts["candle_late"] == 1


def test_a_venue_whose_clock_runs_ahead_a_little_is_believed_and_a_lot_is_not() -> None:
    found, processor = candles(
        traded(A, "1", 100.0, 1.0, T0 + 100_000, event_time=T0 + 1_370_000),
        traded(A, "2", 100.0, 1.0, T0 + 100_000, event_time=T0 + 3_600 * S),
    )
    assert found[A, "1s", 1].trades == 1
    assert processor.counts["candle_ahead"] == 1
