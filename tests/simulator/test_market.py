"""The model behind all venues: the same for a seed, as busy as asked, with spreads where the truth says."""

import itertools
import math
from dataclasses import asdict

import pytest

from simulator.listings import LISTINGS
from simulator.market import Change, Market

STARTED_AT = 1_790_000_000_000_000


def steps(market: Market, seconds: float) -> list[Change]:
    return [change for _ in range(round(seconds * 200)) for change in market.step()]


def test_a_seed_gives_the_same_market_whenever_it_starts() -> None:
    early, late = Market(11, 300, STARTED_AT), Market(11, 300, STARTED_AT + 86_400_000_000)

    first, second = steps(early, 6), steps(late, 6)

    assert [(c.listing, c.at - early.started_at, c.bids, c.asks, c.touch_moved) for c in first] == [
        (c.listing, c.at - late.started_at, c.bids, c.asks, c.touch_moved) for c in second
    ]
    assert {i: q.book.bids.sizes for i, q in early.quoting.items()} == {
        i: q.book.bids.sizes for i, q in late.quoting.items()
    }
    assert len(first) > 1_000


def test_another_seed_gives_another_market() -> None:
    assert [c.bids for c in steps(Market(1, 300), 1)] != [c.bids for c in steps(Market(2, 300), 1)]


def test_the_same_spreads_come_at_every_rate() -> None:
    slow, fast = Market(7, 20, STARTED_AT), Market(7, 200, STARTED_AT)
    steps(slow, 16)
    steps(fast, 16)

    planned = [(p.buy, p.sell, p.leader, p.started_at, p.ends_at, p.bps) for p in slow.ended]
    assert planned == [(p.buy, p.sell, p.leader, p.started_at, p.ends_at, p.bps) for p in fast.ended]
    assert len(planned) >= 2


@pytest.mark.parametrize("rate", [100, 300, 1_200])
def test_frames_are_held_at_the_rate(rate: float) -> None:
    frames = sum(change.frames for change in steps(Market(7, rate), 4))

    assert frames / 4 == pytest.approx(rate, rel=0.05)


def test_books_are_deep_and_never_crossed_by_themselves() -> None:
    market = Market(3, 600, STARTED_AT)

    for _ in range(20 * 200):
        for change in market.step():
            bid, _, ask, _ = market.book(change.listing.instrument).touch()
            assert bid < ask

    for listing in LISTINGS:
        book = market.book(listing.instrument)
        assert 1e4 * (1 - book.bids.prices[0] / book.bids.best) > 250
        assert 1e4 * (book.asks.prices[-1] / book.asks.best - 1) > 250
        within_25_bps = [p for p in book.asks.prices if p < book.asks.best * 1.0025]
        usd = sum(book.asks.sizes[p] for p in within_25_bps) / listing.size_scale * market.usd(listing.base)
        assert usd > 100_000, listing.instrument


def test_changes_say_exactly_which_levels_differ() -> None:
    market = Market(5, 500, STARTED_AT)
    known = {listing.instrument: dict(market.book(listing.instrument).bids.sizes) for listing in LISTINGS}
    unknown_deletes = {"binance": 0, "coinbase": 0, "kraken": 0}

    for _ in range(1_000):
        for change in market.step():
            levels = known[change.listing.instrument]
            for price, before in change.bids.items():
                if change.listing.venue == "kraken" or before:
                    assert levels.get(price, 0) == before
                elif price not in levels and price not in market.book(change.listing.instrument).bids.sizes:
                    unknown_deletes[change.listing.venue] += 1
            sizes = market.book(change.listing.instrument).bids.sizes
            for price in change.bids:
                levels[price] = sizes.get(price, 0)
                if not levels[price]:
                    del levels[price]
            assert levels == sizes

    assert unknown_deletes["kraken"] == 0
    assert unknown_deletes["binance"] > 5
    assert unknown_deletes["coinbase"] > 5


def test_takers_eat_from_the_touch_with_consecutive_ids() -> None:
    market = Market(9, 300, STARTED_AT)
    last = {instrument: quoting.trade_id for instrument, quoting in market.quoting.items()}
    trades = 0

    for _ in range(2_000):
        touches = {i: q.book.touch() for i, q in market.quoting.items()}
        touched: set[str] = set()
        for change in market.step():
            instrument = change.listing.instrument
            for fill in change.fills:
                trades += 1
                last[instrument] += 1
                assert fill.trade_id == last[instrument]
                bid, _, ask, _ = touches[instrument]
                if instrument not in touched:
                    assert fill.price >= ask if fill.taker_buys else fill.price <= bid
            touched.add(instrument)

    assert trades > 300


def test_planted_spreads_stand_in_the_books() -> None:
    market = Market(7, 300, STARTED_AT)
    open_bps: dict[tuple[str, str], list[tuple[int, float]]] = {}
    pairs = [(b, s) for b in LISTINGS for s in LISTINGS if b.market == s.market and b.venue != s.venue]
    for step in range(45 * 200):
        steps(market, 0.005)
        if step % 20:
            continue
        for buy, sell in pairs:
            ask = market.book(buy.instrument).asks.best / buy.price_scale * market.usd(buy.quote)
            bid = market.book(sell.instrument).bids.best / sell.price_scale * market.usd(sell.quote)
            open_bps.setdefault((buy.instrument, sell.instrument), []).append(
                (market.now, 1e4 * (bid / ask - 1))
            )

    plants = market.ended
    assert min(plant.started_at for plant in plants) <= STARTED_AT + 8_000_000
    for name in ("BTC-USD", "ETH-USD"):
        starts = [plant.started_at for plant in plants if plant.market == name]
        assert len(starts) >= 4
        assert max(b - a for a, b in itertools.pairwise(starts)) <= 10_000_000
    for plant in plants:
        assert 30 <= plant.net_bps <= 80
        assert 1_000_000 <= plant.ends_at - plant.started_at <= 6_000_000
        history = open_bps[plant.buy.instrument, plant.sell.instrument]
        during = [bps for at, bps in history if plant.started_at + 5_000 <= at < plant.ends_at]
        assert sum(during) / len(during) == pytest.approx(plant.bps, abs=2.0)
        assert sum(plant.observed) / len(plant.observed) == pytest.approx(plant.bps, abs=2.0)
        before = [bps for at, bps in history if plant.started_at - 500_000 < at < plant.started_at]
        after = [bps for at, bps in history if plant.ends_at + 5_000 < at < plant.ends_at + 500_000]
        assert all(bps < 15 for bps in before + after)
        assert plant.size > 0
    assert {plant.leader.venue for plant in plants} == {"binance", "coinbase", "kraken"}
    assert {plant.taken for plant in plants} == {True, False}


def test_stablecoins_stay_near_one() -> None:
    market = Market(13, 50, STARTED_AT)
    for _ in range(40 * 200):
        steps(market, 0.005)
        for asset in ("USDT", "USDC"):
            assert 0.9990 <= market.usd(asset) <= 1.0005
    assert market.usd("USDT") != market.usd("USDC")


def test_the_header_of_the_truth_carries_what_the_model_used() -> None:
    listing = asdict(LISTINGS[0])

    assert listing["instrument"] == "binance:BTC-USDT"
    assert math.isclose(listing["taker_fee_bps"], 10)
