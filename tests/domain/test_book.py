"""The book and its ladder, against the plainest possible ones."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cexdex.domain.book import EXACT_LEVELS, BookSide, OrderBook, bucket, edge

PRICES = st.integers(97_000, 103_000).map(lambda cents: cents / 1000)
SIZES = st.sampled_from([0.0, 0.5, 1.0, 2.25, 10.0])
CHANGES = st.lists(st.lists(st.tuples(PRICES, SIZES), max_size=60), max_size=12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@given(changes=CHANGES)
@settings(max_examples=150, deadline=None)
def test_a_side_is_a_sorted_dict(sign: float, changes: list[list[tuple[float, float]]]) -> None:
    side, plain = BookSide(sign), {}
    for levels in changes:
        orphans = 0
        for price, size in levels:
            if size:
                plain[price] = size
            elif plain.pop(price, None) is None:
                orphans += 1
        assert side.apply(levels) == orphans
        ordered = sorted(plain.items(), key=lambda level: -sign * level[0])
        assert side.top(len(plain)) == ordered
        assert side.best == (ordered[0][0] if ordered else None)
        assert side.best_size == (ordered[0][1] if ordered else 0.0)
        assert side.worst == (ordered[-1][0] if ordered else None)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@given(changes=CHANGES, limit_bps=st.sampled_from([None, 3.0, 17.0, 80.0, 150.0, 260.0]))
@settings(max_examples=150, deadline=None)
def test_a_ladder_kept_up_to_date_is_the_ladder_of_a_new_book(
    sign: float, changes: list[list[tuple[float, float]]], limit_bps: float | None
) -> None:
    mid = 100.0
    limit = (0.0 if sign > 0 else inf) if limit_bps is None else mid * (1 - sign * limit_bps / 1e4)
    side = BookSide(sign)
    for levels in changes:
        side.apply([(price, size) for price, size in levels if sign * price < sign * mid])
        rungs, exact = side.ladder(mid, limit)
        fresh = BookSide(sign, side.sizes.items())
        assert (rungs, exact) == fresh.ladder(mid, limit)
        known = [(p, s) for p, s in fresh.top(10_000) if sign * p >= sign * limit]
        within = [(p, s) for p, s in known if sign * p >= sign * mid * (1 - sign * 0.02)]
        beyond = [(p, s) for p, s in known if sign * p >= sign * mid * (1 - sign * 0.0206)]
        assert rungs[:exact] == known[:exact]
        assert exact >= min(EXACT_LEVELS, len(within))
        total = sum(size for _, size in rungs)
        assert sum(s for _, s in within) - 1e-9 <= total <= sum(s for _, s in beyond) + 1e-9
        assert [sign * price for price, _ in rungs] == sorted(
            (sign * price for price, _ in rungs), reverse=True
        )


def test_exact_levels_go_on_to_the_end_of_their_bucket() -> None:
    levels = [(100 - n / 10_000, 1.0) for n in range(400)]
    rungs, exact = BookSide(1.0, levels).ladder(100.0, 0.0)
    assert exact > EXACT_LEVELS
    assert bucket(rungs[exact - 1][0]) == bucket(rungs[EXACT_LEVELS - 1][0])
    assert bucket(levels[exact][0]) == bucket(rungs[exact - 1][0]) - 1
    assert sum(size for _, size in rungs) == 400


def test_a_bucket_has_the_amount_weighted_price() -> None:
    exact = [(100 - n / 100, 1.0) for n in range(EXACT_LEVELS)]
    low = edge(bucket(99.3))
    rungs, count = BookSide(1.0, [*exact, (low, 1.0), (low + 0.002, 3.0)]).ladder(100.0, 0.0)
    assert count == EXACT_LEVELS
    assert rungs[-1] == (pytest.approx((low + 3 * (low + 0.002)) / 4), 4.0)


@given(st.floats(1e-6, 1e7))
@settings(deadline=None)
def test_edges_and_buckets_agree_to_the_last_bit(price: float) -> None:
    k = bucket(price)
    assert edge(k) <= price < edge(k + 1)
    assert bucket(edge(k)) == k


def test_truncation_forgets_the_worst() -> None:
    side = BookSide(-1.0, [(price, 1.0) for price in (1.0, 2.0, 3.0, 4.0)])
    side.truncate(2)
    assert side.top(9) == [(1.0, 1.0), (2.0, 1.0)]


def test_a_book_crossed_with_itself_says_so() -> None:
    assert not OrderBook([(1.0, 1.0)], [(2.0, 1.0)]).crossed
    assert OrderBook([(2.0, 1.0)], [(2.0, 1.0)]).crossed
    assert OrderBook([(1.0, 1.0)], [(2.0, 1.0)]).mid == 1.5
    assert OrderBook([(1.0, 1.0)]).mid is None
