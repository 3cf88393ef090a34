"""What a dollar that is not one is worth."""

from __future__ import annotations

from typing import Any

import pytest

from cexdex.config import assets
from cexdex.domain.rates import Rates, Source, Worth, worst

S = 1_000_000
NOW = 1_700_000_000 * S


def source(instrument: str, bid: float | None, ask: float | None, at: int = NOW - S, **fields: Any) -> Source:
    base, quote = instrument.split(":")[1].split("-")
    return Source(
        **{
            "instrument": instrument,
            "base": base,
            "quote": quote,
            "bid": bid,
            "ask": ask,
            "taker_fee_bps": 10.0,
            "session": 1,
            "live": bid is not None,
            "verified_at": at,
            "received_at": at,
            "offset": 7,
            **fields,
        }
    )


def rates(*sources: Source, fixed: dict[str, float] | None = None, now: int = NOW) -> dict[str, Worth]:
    made = Rates(assets().kind, depegged_bps=300, fixed=fixed)
    for one in sources:
        made.heard(one, one.received_at)
    return {worth.asset: worth for worth in made.second(now)}


def test_the_median_of_the_live_mids() -> None:
    usdt = rates(
        source("kraken:USDT-USD", 0.9990, 0.9992),
        source("coinbase:USDT-USD", 0.9994, 0.9998),
        source("bybit:USDT-USD", 0.9, 0.91),
    )["USDT"]
    assert usdt.rate == pytest.approx(0.9991)
    assert usdt.path == ("kraken:USDT-USD",)
    assert usdt.sources == ("bybit:USDT-USD", "coinbase:USDT-USD", "kraken:USDT-USD")
    assert usdt.state == "live"
    assert usdt.conversion_bps == pytest.approx(1e4 * 0.0001 / 0.9991 + 10)


def test_of_two_the_mean() -> None:
    usdt = rates(source("kraken:USDT-USD", 0.9990, 0.9992), source("coinbase:USDT-USD", 0.9994, 0.9998))[
        "USDT"
    ]
    assert (usdt.rate, usdt.bid, usdt.ask) == (
        pytest.approx(0.99935),
        pytest.approx(0.9992),
        pytest.approx(0.9995),
    )


def test_one_triangulation_where_nothing_tells_directly() -> None:
    found = rates(source("binance:USDC-USDT", 1.0004, 1.0006), source("kraken:USDT-USD", 0.999, 0.9992))
    usdc = found["USDC"]
    assert usdc.rate == pytest.approx(1.0005 * 0.9991)
    assert usdc.bid == pytest.approx(1.0004 * 0.999)
    assert usdc.path == ("binance:USDC-USDT", "kraken:USDT-USD")
    assert usdc.conversion_bps == pytest.approx(20 + 1e4 * 0.0001 / 1.0005 + 1e4 * 0.0001 / 0.9991)


def test_the_other_way_round_too() -> None:
    usdt = rates(source("binance:USDC-USDT", 1.0004, 1.0006), source("kraken:USDC-USD", 0.9998, 1.0002))[
        "USDT"
    ]
    assert usdt.rate == pytest.approx(1.0 / 1.0005)
    assert usdt.bid == pytest.approx(0.9998 / 1.0006)


def test_what_tells_directly_goes_before_a_triangulation() -> None:
    usdc = rates(
        source("binance:USDC-USDT", 1.01, 1.01),
        source("kraken:USDT-USD", 1.0, 1.0),
        source("kraken:USDC-USD", 0.9999, 1.0001),
    )["USDC"]
    assert usdc.rate == pytest.approx(1.0)


def test_a_rate_never_uses_a_market_that_it_converts() -> None:
    found = rates(
        source("kraken:EUR-USD", 1.1, 1.1),
        source("binance:EUR-USDT", 1.2, 1.2),
        source("binance:BTC-USDT", 50_000, 50_000),
        source("kraken:BTC-USD", 100_000, 100_000),
    )
    assert found["EUR"].rate == pytest.approx(1.1)
    assert "USDT" not in found


def test_a_wrapped_asset_over_the_one_it_stands_for() -> None:
    found = rates(source("kraken:WBTC-BTC", 0.998, 1.0), source("kraken:BTC-USD", 100_000, 100_002))
    assert found["WBTC"].rate == pytest.approx(0.999 * 100_001)
    assert found["WBTC"].state == "live"


def test_a_stable_far_from_one_is_depegged_and_keeps_its_number() -> None:
    usdt = rates(source("kraken:USDT-USD", 0.95, 0.96))["USDT"]
    assert usdt.state == "depegged"
    assert usdt.rate == pytest.approx(0.955)


def test_the_limit_of_the_peg_is_exact() -> None:
    assert rates(source("kraken:USDT-USD", 0.9701, 0.9701))["USDT"].state == "live"
    assert rates(source("kraken:USDT-USD", 0.9699, 0.9699))["USDT"].state == "depegged"


def test_without_proof_for_a_minute_it_is_stale_and_has_no_number() -> None:
    unproven = source("kraken:USDT-USD", 1.0, 1.0, NOW - S, verified_at=NOW - 60 * S - 1)
    assert rates(unproven)["USDT"] == Worth(asset="USDT", state="stale", offset=7)
    assert (
        rates(source("kraken:USDT-USD", 1.0, 1.0, NOW - S, verified_at=NOW - 60 * S))["USDT"].state == "live"
    )


def test_a_source_that_is_not_live_does_not_count() -> None:
    assert rates(source("kraken:USDT-USD", None, None))["USDT"].state == "stale"


def test_what_nobody_spoke_of_for_a_minute_is_missing_once_and_then_gone() -> None:
    made = Rates(assets().kind, depegged_bps=300)
    made.heard(source("kraken:USDT-USD", 1.0, 1.0, NOW), NOW)
    made.second(NOW)
    assert [worth.state for worth in made.second(NOW + 61 * S)] == ["missing"]
    assert made.second(NOW + 62 * S) == []


def test_a_fixed_rate_replaces_every_source() -> None:
    found = rates(
        source("kraken:USDT-USD", 0.99, 0.99),
        source("binance:USDC-USDT", 1.001, 1.001),
        fixed={"USDT": 0.9995},
    )
    assert (found["USDT"].rate, found["USDT"].state) == (0.9995, "assumed")
    assert (found["USDC"].rate, found["USDC"].state) == (pytest.approx(1.001 * 0.9995), "assumed")


def test_a_change_of_state_does_not_wait_for_the_second() -> None:
    made = Rates(assets().kind, depegged_bps=300)
    assert [w.state for w in made.heard(source("kraken:USDT-USD", 1.0, 1.0), NOW)] == ["live"]
    made.second(NOW)
    assert made.heard(source("kraken:USDT-USD", 1.001, 1.001), NOW + 1) == []
    assert made.worth["USDT"].rate == 1.0
    assert [w.state for w in made.heard(source("kraken:USDT-USD", None, None), NOW + 2)] == ["stale"]


def test_an_older_session_is_ignored_until_the_newest_falls_silent() -> None:
    made = Rates(assets().kind, depegged_bps=300)
    made.heard(source("kraken:USDT-USD", 1.0, 1.0, NOW, session=2), NOW)
    made.heard(source("kraken:USDT-USD", 0.9, 0.9, NOW + S, session=1), NOW + S)
    assert made.second(NOW + S)[0].rate == 1.0
    made.heard(source("kraken:USDT-USD", 0.98, 0.98, NOW + 4 * S, session=1), NOW + 4 * S)
    assert made.second(NOW + 4 * S)[0].rate == 0.98


def test_a_number_made_of_two_rates_is_as_good_as_the_worse() -> None:
    assert worst("live", "assumed") == "assumed"
    assert worst("depegged", "missing") == "missing"
