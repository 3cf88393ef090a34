"""Trades once each, and holes with their count."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cexdex.config import assets, load
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from ingest.listing import listed_instrument
from ingest.trades import HOLES, LARGEST_HOLE, TradeLog, hole_behind

T0 = 1_700_000_000_000_000


def log(base: str = "BTC", quote: str = "USD") -> tuple[TradeLog, Counter[str]]:
    entry = listed_instrument(
        "coinbase", f"{base}-{quote}", base, quote, load().venues["coinbase"], assets(), T0, status="trading"
    )
    assert entry is not None
    counts: Counter[str] = Counter()
    return TradeLog(entry.instrument, counts), counts


def feed(trades: TradeLog, *ids: int, snapshot: bool = False, at: int = T0) -> list[Any]:
    return [
        (r.trade_id, r.origin) if isinstance(r, Trade) else (r.lost, r.reason)
        for n in ids
        for r in trades.trade(n, 100.0, 2.0, "buy", at, at, snapshot=snapshot)
        if isinstance(r, Trade | VenueStatus)
    ]


def test_each_trade_once_and_a_hole_with_its_count() -> None:
    trades, counts = log()
    assert feed(trades, 7, 8, 8, 7) == [("7", "live"), ("8", "live")]
    assert counts["trade_repeated"] == 2
    assert feed(trades, 12) == [(3, "trades 9 to 11 did not arrive"), ("12", "live")]
    assert counts["trades_missing"] == 3


def test_what_arrives_late_shrinks_the_hole() -> None:
    trades, _ = log()
    feed(trades, 1, 5)
    assert feed(trades, 3) == [("3", "recovery"), (2, "trades 2 to 4 did not arrive")]
    assert feed(trades, 3) == []
    assert feed(trades, 2, 4)[-1] == (0, "trades 2 to 4 did not arrive")


def test_a_snapshot_only_fills_the_hole_behind_the_last_trade_published() -> None:
    fresh, _ = log()
    assert feed(fresh, 10, 11, 12, snapshot=True) == []
    assert feed(fresh, 13) == [("13", "live")]
    [last] = [t for t in log()[0].trade(10, 1.0, 1.0, "sell", T0, T0) if isinstance(t, Trade)]
    again, _ = log()
    again.recall(last)
    assert feed(again, 9, 10, 11, 12, snapshot=True) == [("11", "recovery"), ("12", "recovery")]
    short, _ = log()
    short.recall(last)
    assert feed(short, 13, 14, snapshot=True) == [
        (2, "trades 11 to 12 did not arrive"),
        ("13", "recovery"),
        ("14", "recovery"),
    ]


def test_values_times_and_the_market() -> None:
    trades, _ = log()
    [trade] = trades.trade(1, 100.0, 2.0, "sell", None, T0)
    assert isinstance(trade, Trade)
    assert (trade.market, trade.instrument) == ("BTC-USD", "coinbase:BTC-USD")
    assert (trade.price, trade.size, trade.quote_size, trade.taker_side) == (100.0, 2.0, 200.0, "sell")
    assert (trade.event_time, trade.received_at) == (T0, T0), "no event time: the first sight of it"
    turned, _ = log("USDT", "USDC")
    [trade] = turned.trade(1, 0.8, 10.0, "buy", T0 - 5, T0)
    assert isinstance(trade, Trade)
    assert (trade.market, trade.price, trade.size, trade.quote_size) == ("USDC-USDT", 1.25, 8.0, 10.0)
    assert (trade.taker_side, trade.event_time) == ("sell", T0 - 5)


def test_a_second_hole_leaves_the_first_open() -> None:
    trades, _ = log()
    feed(trades, 1, 5, 8)
    assert feed(trades, 3) == [("3", "recovery"), (2, "trades 2 to 4 did not arrive")]
    assert feed(trades, 7) == [("7", "recovery"), (1, "trades 6 to 7 did not arrive")]
    assert feed(trades, 2, 4)[1::2] == [
        (1, "trades 2 to 4 did not arrive"),
        (0, "trades 2 to 4 did not arrive"),
    ]


def test_of_a_hole_too_large_no_ids_are_kept_and_a_smaller_one_keeps_its_own() -> None:
    trades, counts = log()
    feed(trades, 1, 5)
    after = 6 + LARGEST_HOLE + 1
    assert feed(trades, after)[0] == (LARGEST_HOLE + 1, f"trades 6 to {after - 1} did not arrive")
    assert feed(trades, 1000) == []
    assert counts["trade_repeated"] == 1
    assert feed(trades, 3) == [("3", "recovery"), (2, "trades 2 to 4 did not arrive")]


def test_only_the_newest_holes_are_waited_for() -> None:
    trades, _ = log()
    feed(trades, *range(1, 2 * HOLES + 4, 2))
    assert feed(trades, 2) == []
    assert feed(trades, 4) == [("4", "recovery"), (0, "trades 4 to 4 did not arrive")]


def test_what_another_connection_gave_is_not_waited_for() -> None:
    trades, _ = log()
    _, gap, _ = [r for n in (1, 5) for r in trades.trade(n, 1.0, 1.0, "buy", T0, T0)]
    assert isinstance(gap, VenueStatus)
    [third] = log()[0].trade(3, 1.0, 1.0, "buy", T0, T0)
    assert isinstance(third, Trade)
    trades.recall(third)
    assert feed(trades, 2, 3) == []
    assert feed(trades, 4) == [("4", "recovery"), (0, "trades 2 to 4 did not arrive")]
    left = hole_behind(gap, 3)
    assert left is not None
    assert (left.lost, left.reason) == (1, "trades 4 to 4 did not arrive")
    assert hole_behind(gap, 1) is gap
    assert hole_behind(gap, 4) is None
