"""How liquid an instrument is, and null where nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from processors.liquidity import LiquidityOfInstruments
from tests.processors.market import T0, S, booked, config, listed, quoted, rated

A = "kraken:BTC-USD"


def liquidity(*records: Any, instrument: str = A, now: int = T0 + S) -> Any:
    processor = LiquidityOfInstruments("BTC-USD", config())
    for record in (listed(instrument), *records):
        list(processor.on(record, 0, T0))
    [said] = processor.on_time(now, 9)
    assert (said.received_at, said.source_offset, said.instrument) == (now, 9, instrument)
    return said


@pytest.mark.parametrize(
    ("bid_size", "ask_size", "share", "weighted"),
    [
        (20, 471, 0.040733, 14.330407),
        (25, 148, 0.144509, 14.331445),
        (31, 95, 0.246032, 14.332460),
        (29, 92, 0.239669, 14.332397),
        (21, 65, 0.244186, 14.332442),
    ],
)
def test_imbalance_and_weighted_mid(bid_size: float, ask_size: float, share: float, weighted: float) -> None:
    said = liquidity(quoted(A, 14.33, 14.34, T0, bid_size=bid_size, ask_size=ask_size))
    assert said.imbalance == pytest.approx(2 * share - 1, abs=2e-6)
    assert said.weighted_mid == pytest.approx(weighted, abs=1e-6)
    assert said.reference_mid == pytest.approx(14.335)


def test_the_spread_is_of_the_mid() -> None:
    assert liquidity(quoted(A, 10_000, 10_010, T0)).spread_bps == pytest.approx(9.99500, abs=1e-5)


def test_depth_and_slippage_from_the_ladder_under_the_touch() -> None:
    bids = [(99.9, 5.0), (99.8, 7.0), (99.4, 9.0)]
    asks = [(100.1, 6.0), (100.3, 200.0)]
    said = liquidity(
        booked(A, bids, asks, T0), quoted(A, 99.9, 100.1, T0, bid_size=4.0, ask_size=6.0), now=T0 + S
    )
    assert (said.bid_depth_10bps, said.bid_depth_25bps, said.bid_depth_100bps) == (4.0, 4.0 + 7.0, 20.0)
    assert (said.ask_depth_10bps, said.ask_depth_25bps, said.ask_depth_50bps) == (6.0, 6.0, 206.0)
    assert said.buy_slippage_1k_bps == pytest.approx(1e4 * ((6 * 100.1 + 4 * 100.3) / 10 / 100 - 1))
    assert said.sell_slippage_1k_bps == pytest.approx(1e4 * (1 - (4 * 99.9 + 6 * 99.8) / 10 / 100))
    assert said.sell_slippage_10k_bps is None
    assert (said.ladder_age_us, said.valid, said.reason) == (S, True, None)


def test_beyond_what_is_known_there_is_no_number() -> None:
    book = booked(
        A,
        [(99.9, 5.0)],
        [(100.1, 6.0)],
        T0,
        reference_price=100.0,
        bids_complete_to_bps=30.0,
        asks_complete_to_bps=60.0,
    )
    said = liquidity(book, quoted(A, 99.9, 100.1, T0))
    assert said.bid_depth_25bps is not None
    assert said.bid_depth_50bps is None
    assert said.ask_depth_50bps is not None
    assert said.ask_depth_100bps is None
    assert (said.bids_complete_to_bps, said.asks_complete_to_bps) == (pytest.approx(30), pytest.approx(60))


def test_a_ladder_cut_at_its_reach_still_tells_it_when_the_mid_has_moved_a_little() -> None:
    book = booked(A, [(99.9, 5.0)], [(100.1, 6.0)], T0)
    assert liquidity(book, quoted(A, 99.92, 100.12, T0)).ask_depth_200bps is not None
    assert liquidity(book, quoted(A, 100.0, 100.2, T0)).ask_depth_200bps is None


def test_sizes_in_usd_go_by_the_rate() -> None:
    name = "binance:BTC-USDT"
    book = booked(name, [(99.9, 50.0)], [(100.0, 10.0), (101.0, 50.0)], T0)
    quote = quoted(name, 100.0, 100.0, T0, ask_size=10.0)
    said = liquidity(rated("USDT", 0.5, T0), book, quote, instrument=name)
    assert said.buy_slippage_1k_bps == pytest.approx(1e4 * ((10 * 100 + 10 * 101) / 20 / 100 - 1))
    assert (said.rate, said.rate_state) == (0.5, "live")
    bare = liquidity(book, quote, instrument=name)
    assert (bare.valid, bare.reason, bare.buy_slippage_1k_bps) == (False, "no_rate", None)
    assert bare.bid_depth_10bps is not None


def test_one_that_cannot_be_believed_has_a_reason_and_no_numbers() -> None:
    said = liquidity(booked(A, [(99.9, 5.0)], [(100.1, 6.0)], T0), quoted(A, 99.9, 100.1, T0), now=T0 + 4 * S)
    assert (said.valid, said.reason, said.age_us) == (False, "stale_leg", 4 * S)
    assert (said.reference_mid, said.bid_depth_10bps, said.buy_slippage_1k_bps) == (None, None, None)
    assert liquidity().reason == "stale_leg"
    assert liquidity(quoted(A, 1.0, None, T0)).reason == "no_liquidity"


def test_only_at_full_seconds() -> None:
    processor = LiquidityOfInstruments("BTC-USD", config())
    list(processor.on(listed(A), 0, T0))
    said = [s for n in range(25) for s in processor.on_time(T0 + n * 100_000, 0)]
    assert [(s.received_at - T0) // S for s in said] == [0, 1, 2]
