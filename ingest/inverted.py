"""Instruments that a venue lists the other way round, in the market's orientation: 1 / price, sizes in the market's base."""

from __future__ import annotations

from cexdex.domain.book import Level

Touch = tuple[float | None, float, float | None, float]
"""Bid, its size, ask, its size."""
NO_TOUCH: Touch = (None, 0.0, None, 0.0)


def inverted_touch(touch: Touch) -> Touch:
    """A touch of an instrument that is listed the other way round, in the market's orientation."""
    bid, bid_size, ask, ask_size = touch
    return (
        None if ask is None else 1 / ask,
        0.0 if ask is None else ask * ask_size,
        None if bid is None else 1 / bid,
        0.0 if bid is None else bid * bid_size,
    )


def inverted_levels(levels: list[Level]) -> list[Level]:
    """Levels of one side of such an instrument, as levels of the other side. A removal keeps its size 0."""
    return [(1 / price, price * size) for price, size in levels if price > 0]
