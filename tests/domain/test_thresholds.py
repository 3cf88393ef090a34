"""Fees on the side they belong to, and thresholds that do not flutter."""

from __future__ import annotations

import pytest

from cexdex.domain.fees import bps, buy_factor, sell_factor
from cexdex.domain.hysteresis import size_text, stands


def test_a_fee_in_quote_is_paid_on_top() -> None:
    assert 100 * buy_factor(10, "quote") == pytest.approx(100.1, rel=1e-15)


def test_a_fee_in_base_is_kept_from_what_arrives() -> None:
    assert 100 * buy_factor(10, "base") == pytest.approx(100.1001001001001, rel=1e-15)


def test_a_seller_is_left_with_less() -> None:
    assert 100 * sell_factor(10) == pytest.approx(99.9, rel=1e-15)


def test_bps_are_of_what_was_spent() -> None:
    assert bps(100.5, 100) == pytest.approx(50, rel=1e-12)


def test_one_episode_with_hysteresis_where_two_would_be_without() -> None:
    values = [1.0, 6, 7, 4, 6, 2]
    above = [False]
    for value in values:
        above.append(stands(value, stood=above[-1], enter=5, clear=3))
    assert above[1:] == [False, True, True, True, True, False]
    assert [stands(value, stood=False, enter=5, clear=3) for value in values] == [
        False, True, True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("notional", "text"), [(None, "touch"), (1000.0, "1000"), (1e6, "1000000"), (0.5, "0.5")]
)
def test_a_size_has_one_name(notional: float | None, text: str) -> None:
    assert size_text(notional) == text
