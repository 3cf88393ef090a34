"""Thresholds that do not flutter: in at one level, out at a lower one."""

from __future__ import annotations


def stands(value: float, *, stood: bool, enter: float, clear: float) -> bool:
    """Whether a value counts as above: it must reach `enter` to begin, and fall below `clear` to end."""
    return value >= (clear if stood else enter)


def size_text(notional_usd: float | None) -> str:
    """How a size is named in an id: `touch`, or the notional in USD without a useless fraction."""
    if notional_usd is None:
        return "touch"
    return f"{notional_usd:.0f}" if notional_usd == int(notional_usd) else repr(notional_usd)
