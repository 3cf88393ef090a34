"""Spreads: the numbers, what makes them invalid, and when they are said."""

from __future__ import annotations

from typing import Any

import pytest

from cexdex.records.record import Record
from cexdex.records.spreads import Spread
from tests.processors.market import T0, S, booked, listed, quoted, rated
from tests.processors.told import Told, edge

A, B = "kraken:BTC-USD", "coinbase:BTC-USD"
ASKS = [(100.00, 1.0), (100.05, 2.0), (100.20, 5.0)]
BIDS = [(100.50, 0.5), (100.40, 1.5), (100.10, 10.0)]
SIZES = {0.5: 50.0, 1: 100.0, 2: 200.0, 3: 300.0, 5: 500.0, 8: 800.0, 8.1: 810.0}


def two_books(**fields: Any) -> Told:
    """Vector T1: asks on A, bids on B, fees of 10 bps; A's mid is 100, so that a notional is 100 × the size."""
    told = Told(listed(A, **fields), listed(B, **fields), notionals_usd=list(SIZES.values()))
    told.tell(booked(A, [(100.0, 1.0)], ASKS, T0))
    told.tell(booked(B, BIDS, [(100.6, 1.0)], T0))
    told.tell(quoted(A, 100.0, 100.0, T0, ask_size=1.0))
    return told


def t1(**fields: Any) -> Spread:
    return edge(two_books(**fields).tell(quoted(B, 100.5, 100.6, T0, bid_size=0.5)))


@pytest.mark.parametrize(
    ("base", "buy_vwap", "sell_vwap", "net_bps", "profit"),
    [
        (0.5, 100, 100.5, 29.9201, 0.14975),
        (1, 100, 100.45, 24.9301, 0.24955),
        (2, 100.025, 100.425, 19.9301, 0.39910),
        (3, 100.033333, 100.316667, 8.2873, 0.24895),
        (5, 100.1, 100.23, -7.0190, -0.35165),
        (8, 100.1375, 100.18125, -15.6198, -1.25255),
    ],
)
def test_the_worked_example_at_each_size(
    base: float, buy_vwap: float, sell_vwap: float, net_bps: float, profit: float
) -> None:
    [size] = [size for size in t1().sizes if size.notional_usd == SIZES[base]]
    assert size.buy_vwap == pytest.approx(buy_vwap, abs=1e-6)
    assert size.sell_vwap == pytest.approx(sell_vwap, abs=1e-6)
    assert size.net_bps == pytest.approx(net_bps, abs=1e-4)
    assert size.profit_usd == pytest.approx(profit, abs=1e-9)
    assert size.reason is None


def test_a_size_that_the_book_does_not_hold_has_no_price() -> None:
    [size] = [size for size in t1().sizes if size.notional_usd == SIZES[8.1]]
    assert (size.buy_vwap, size.net_bps, size.profit_usd) == (None, None, None)
    assert size.reason == "insufficient_depth"
    assert size.sell_vwap == pytest.approx(100.180247, abs=1e-6)


def test_at_the_touch_one_buys_at_the_ask_and_sells_at_the_bid() -> None:
    spread = t1()
    assert (spread.buy_price, spread.sell_price) == (100.0, 100.5)
    assert (spread.buy_size, spread.sell_size) == (1.0, 0.5)
    assert spread.raw_bps == pytest.approx(50, abs=1e-9)
    assert spread.gross_bps == pytest.approx(50, abs=1e-9)
    assert spread.valid
    assert spread.reason is None


def test_both_legs_pay_their_fee() -> None:
    assert t1().net_bps == pytest.approx(1e4 * (100.5 * 0.999 / (100 * 1.001) - 1), abs=1e-9)


def test_each_leg_pays_its_own_fee() -> None:
    told = Told(listed(A, fee=40), listed(B, fee=120))
    told.tell(quoted(A, 99.9, 100.0, T0))
    said = told.tell(quoted(B, 100.5, 100.6, T0))
    assert edge(said).net_bps == pytest.approx(1e4 * (100.5 * 0.988 / (100 * 1.004) - 1), abs=1e-9)
    assert edge(said, B, A).net_bps == pytest.approx(1e4 * (99.9 * 0.996 / (100.6 * 1.012) - 1), abs=1e-9)
    assert (edge(said).buy_fee_bps, edge(said).sell_fee_bps) == (40, 120)


def test_a_fee_in_base_is_kept_from_what_was_bought() -> None:
    spread = t1(fee_asset="base")
    assert spread.net_bps == pytest.approx(1e4 * (100.5 * 0.999 / (100 / 0.999) - 1), abs=1e-9)
    paid, got = 100 / 0.999, 100.5 * 0.999
    assert spread.sizes[0].profit_usd == pytest.approx(0.5 * (got - paid), abs=1e-9)


def test_a_dollar_that_is_not_one_turns_a_gain_into_a_loss() -> None:
    told = Told(listed(A, fee=0), listed("coinbase:BTC-USDT", fee=0))
    told.tell(rated("USDT", 0.9990, T0, age_us=3 * S))
    told.tell(quoted(A, 100_190, 100_200, T0))
    spread = edge(told.tell(quoted("coinbase:BTC-USDT", 100_300, 100_310, T0 + S)), A, "coinbase:BTC-USDT")
    assert spread.raw_bps is None
    assert spread.gross_bps == pytest.approx(-0.030, abs=1e-3)
    assert (spread.buy_rate, spread.sell_rate) == (1.0, 0.9990)
    assert spread.rate_age_us == 4 * S
    assert spread.conversion_bps == 2.0
    assert spread.net_converted_bps == pytest.approx((spread.net_bps or 0) - 2.0)


def test_a_notional_becomes_base_once_at_the_buy_legs_mid_and_rate() -> None:
    told = Told(listed("binance:BTC-USDT", fee=0), listed(B, fee=0), notionals_usd=[149.85])
    told.tell(rated("USDT", 0.999, T0))
    told.tell(booked("binance:BTC-USDT", [(99.0, 9.0)], [(101.0, 1.0), (102.0, 9.0)], T0))
    told.tell(booked(B, [(100.5, 0.5), (100.4, 9.0)], [(100.6, 9.0)], T0))
    told.tell(quoted("binance:BTC-USDT", 99.0, 101.0, T0))
    said = told.tell(quoted(B, 103.0, 103.6, T0 + 1, bid_size=1.0))
    [size] = edge(said, "binance:BTC-USDT", B).sizes
    assert size.buy_vwap == pytest.approx((101 * 1.0 + 102 * 0.5) / 1.5)
    assert size.sell_vwap == pytest.approx((103 * 1.0 + 100.5 * 0.5) / 1.5)
    assert size.profit_usd == pytest.approx(1.5 * ((size.sell_vwap or 0) - (size.buy_vwap or 0) * 0.999))


def test_every_ordered_pair_of_two_venues_is_an_edge_and_an_alias_is_none() -> None:
    told = Told(listed(A), listed("kraken:BTC-USDT"), listed(B), listed("coinbase:BTC-USDC", alias_of=B))
    said = told.pass_to(T0 + 10 * S)
    assert {spread.edge for spread in said} == {
        f"{A}>{B}",
        f"{B}>{A}",
        f"kraken:BTC-USDT>{B}",
        f"{B}>kraken:BTC-USDT",
    }


def test_one_venue_with_itself_only_when_asked() -> None:
    told = Told(listed(A), listed("kraken:BTC-USDT"), same_venue_edges=True)
    assert {s.edge for s in told.pass_to(T0 + 10 * S)} == {f"{A}>kraken:BTC-USDT", f"kraken:BTC-USDT>{A}"}


def test_before_the_first_record_a_leg_is_stale() -> None:
    told = Told(listed(A))
    said = told.tell(listed(B, at=T0))
    assert [(s.edge, s.valid, s.reason, s.buy_age_us) for s in said] == [
        (f"{B}>{A}", False, "stale_leg", None),
        (f"{A}>{B}", False, "stale_leg", None),
    ]


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("syncing", "gap", "gap"),
        ("syncing", "checksum", "checksum"),
        ("stale", "disconnected", "disconnected"),
        ("syncing", "crossed", "crossed"),
        ("syncing", "beyond_known_range", "beyond_known_range"),
        ("halted", None, "halted"),
        ("stale", None, "stale_leg"),
        ("syncing", None, "syncing"),
        ("stale", "ended", "ended"),
        ("syncing", "reorg", "reorg"),
    ],
)
@pytest.mark.parametrize("leg", [A, B])
def test_an_empty_quote_says_why_and_takes_the_numbers_away(
    leg: str, state: str, reason: str | None, said: str
) -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    spread = edge(told.tell(quoted(leg, None, None, T0 + 1, state=state, reason=reason)))
    assert (spread.valid, spread.reason) == (False, said)
    assert (spread.raw_bps, spread.gross_bps, spread.net_bps, spread.net_converted_bps) == (None,) * 4
    assert {(size.net_bps, size.reason) for size in spread.sizes} == {(None, said)}
    assert told.pass_to(T0 + 4 * S) == [] or {s.reason for s in told.pass_to(T0 + 9 * S)} <= {
        said,
        "stale_leg",
    }


def test_an_instrument_that_gives_no_quote_for_three_seconds_is_stale() -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    told.tell(quoted(A, 100.0, 100.0, T0 + 2 * S))
    [first, *_] = [s for s in told.pass_to(T0 + 4 * S) if s.buy == A and not s.valid]
    assert (first.received_at, first.reason, first.sell_age_us) == (T0 + 3_100_000, "stale_leg", 3_100_000)


def test_at_three_seconds_sharp_it_is_not_yet_stale() -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    assert all(spread.valid for spread in told.pass_to(T0 + 3 * S))


@pytest.mark.parametrize(("venue", "limit"), [("kraken", 10), ("coinbase", 3)])
def test_an_unproven_quote_is_stale_after_its_venues_limit(venue: str, limit: int) -> None:
    other = B if venue == "kraken" else A
    told = Told(listed(f"{venue}:BTC-USD"), listed(other))
    reasons = {}
    for second in range(13):
        at = T0 + second * S
        told.pass_to(at)
        told.tell(quoted(f"{venue}:BTC-USD", 100.0, 100.1, at, verified_at=T0))
        told.tell(quoted(other, 100.3, 100.4 + second, at))
        said = told.pass_to(at + 100_000)
        reasons |= {s.received_at: s.reason for s in said if s.buy.startswith(venue)}
        stale = told.processor._legs[f"{venue}:BTC-USD"].reason_at(told.now)
        assert stale == ("stale_leg" if second >= limit else None)
    assert "stale_leg" in reasons.values()


def test_a_leg_that_comes_back_with_the_same_price_makes_the_edge_valid_at_once() -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    told.now = T0 + 3_000_001
    told.tell(quoted(A, 100.0, 99.9, told.now))
    assert edge(told.tell(quoted(B, 100.5, 100.6, T0 + 3_050_000))).valid


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        (None, "no_rate"),
        (rated("USDT", None, T0, state="missing", age_us=None), "no_rate"),
        (rated("USDT", None, T0, state="stale", age_us=None), "no_rate"),
        (rated("USDT", 0.95, T0, state="depegged"), "depegged"),
        (rated("USDT", 0.9995, T0, state="assumed"), None),
    ],
)
def test_a_rate_that_cannot_be_believed(rate: Record | None, reason: str | None) -> None:
    told = Told(listed(A), listed("coinbase:BTC-USDT"))
    if rate is not None:
        told.tell(rate)
    told.tell(quoted(A, 99.9, 100.0, T0))
    spread = edge(told.tell(quoted("coinbase:BTC-USDT", 100.5, 100.6, T0)), A, "coinbase:BTC-USDT")
    assert (spread.valid, spread.reason) == (reason is None, reason)
    assert (spread.net_bps is None) == (reason == "no_rate")
    if rate is None:
        assert spread.rate_state == "missing"


def test_a_lost_rate_takes_the_edge_with_it_at_once() -> None:
    told = Told(listed(A), listed("coinbase:BTC-USDT"))
    told.tell(rated("USDT", 1.0, T0))
    told.tell(quoted(A, 99.9, 100.0, T0))
    told.tell(quoted("coinbase:BTC-USDT", 100.5, 100.6, T0))
    lost = rated("USDT", None, T0 + 1, state="missing", age_us=None)
    assert edge(told.tell(lost), A, "coinbase:BTC-USDT").reason == "no_rate"


def test_what_is_too_good_is_not_true() -> None:
    told = Told(listed(A, fee=0), listed(B, fee=0))
    told.tell(quoted(A, 99.9, 100.0, T0))
    assert edge(told.tell(quoted(B, 104.99, 105.1, T0))).valid
    spread = edge(told.tell(quoted(B, 105.01, 105.1, T0)))
    assert (spread.valid, spread.reason) == (False, "implausible")
    assert spread.gross_bps == pytest.approx(501, abs=1e-6)


def test_a_side_without_a_price_is_no_liquidity() -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    said = told.tell(quoted(B, None, 100.6, T0 + 1))
    assert edge(said).reason == "no_liquidity"
    assert edge(two_books().tell(quoted(B, None, 100.6, T0)), B, A).valid


def test_touch_and_ladder_of_two_sessions_give_no_sizes() -> None:
    told = two_books()
    spread = edge(told.tell(quoted(B, 100.5, 100.6, T0, session=2)))
    assert spread.valid
    assert {(size.net_bps, size.reason) for size in spread.sizes} == {(None, "syncing")}
    assert (spread.sell_quote_session, spread.sell_book_session) == (2, 1)


def test_a_ladder_known_less_far_says_so() -> None:
    told = two_books()
    told.tell(booked(B, BIDS, [(100.6, 1.0)], T0, bids_complete_to_bps=40.0))
    told.tell(booked(A, [(100.0, 1.0)], ASKS, T0, asks_complete_to_bps=40.0))
    spread = edge(told.tell(quoted(B, 100.5, 100.6, T0, bid_size=0.5)))
    assert spread.sizes[-1].reason == "beyond_known_range"


@pytest.mark.parametrize("fields", [{"min_size": 0.6}, {"min_notional": 60.0}])
def test_below_what_a_venue_accepts(fields: dict[str, float]) -> None:
    sizes = t1(**fields).sizes
    assert (sizes[0].net_bps, sizes[0].reason) == (None, "below_minimum")
    assert sizes[1].reason is None


@pytest.mark.parametrize(("status", "reason"), [("halted", "halted"), ("delisted", "ended")])
def test_what_is_not_traded_any_more_gets_a_last_word(status: str, reason: str) -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    said = told.tell(listed(B, at=T0 + 1, status=status))
    assert {(s.edge, s.valid, s.reason) for s in said} == {
        (f"{A}>{B}", False, reason),
        (f"{B}>{A}", False, reason),
    }
    assert told.pass_to(T0 + 12 * S) == []


def test_a_changed_fee_is_used_at_once() -> None:
    told = two_books()
    told.tell(quoted(B, 100.5, 100.6, T0))
    said = told.tell(listed(B, fee=20, at=T0 + 1))
    assert edge(said).net_bps == pytest.approx(1e4 * (100.5 * 0.998 / (100 * 1.001) - 1), abs=1e-9)


def test_the_leg_furthest_off_against_three_other_venues() -> None:
    names = [A, B, "binance:BTC-USD", "okx:BTC-USD", "bybit:BTC-USD"]
    told = Told(*(listed(name, fee=0) for name in names))
    for name, mid in zip(names[2:], (100.0, 100.2, 99.0), strict=True):
        told.tell(quoted(name, mid - 0.1, mid + 0.1, T0))
    told.tell(quoted(A, 100.9, 101.1, T0))
    spread = edge(told.tell(quoted(B, 99.95, 100.15, T0)))
    assert spread.deviation_bps == pytest.approx(100.0)
    told.tell(quoted("okx:BTC-USD", None, None, T0, state="syncing"))
    assert edge(told.tell(quoted(A, 100.0, 100.1, T0 + 1))).deviation_bps is None
