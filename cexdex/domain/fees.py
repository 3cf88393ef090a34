"""What a taker's fee makes of a price."""

from __future__ import annotations

from typing import Literal


def buy_factor(fee_bps: float, taken_in: Literal["quote", "base"]) -> float:
    """What a buyer pays for one unit that arrives, as a multiple of the price."""
    fee = fee_bps * 1e-4
    return 1 + fee if taken_in == "quote" else 1 / (1 - fee)


def sell_factor(fee_bps: float) -> float:
    """What a seller is left with, as a multiple of the price."""
    return 1 - fee_bps * 1e-4


def bps(sell: float, buy: float) -> float:
    """What selling at one price and buying at the other returns on the capital spent."""
    return 1e4 * (sell / buy - 1)
