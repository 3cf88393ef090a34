"""Numbers and times as the venues write them."""

import time
from functools import lru_cache


def fixed(value: int, decimals: int) -> str:
    """A whole number of the last decimal, with all its zeros: Kraken's and REST's form."""
    if decimals == 0:
        return str(value)
    digits = str(value)
    if len(digits) <= decimals:
        digits = digits.zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def eight(value: int, decimals: int) -> str:
    """Binance's wire precision is 8 decimals whatever the tick size."""
    dot = "." if decimals == 0 else ""
    return fixed(value, decimals) + dot + "0" * (8 - decimals)


def trimmed(value: int, decimals: int) -> str:
    """Coinbase writes no trailing zeros; an emptied level is "0"."""
    if decimals == 0:
        return str(value)
    return fixed(value, decimals).rstrip("0").rstrip(".")


def rfc3339(micros: int) -> str:
    """Six decimals always: Kraken's form."""
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{_seconds(seconds)}.{fraction:06d}Z"


def rfc3339_trimmed(micros: int, nanos: int = 0) -> str:
    """Go's form, as Coinbase writes it: trailing zeros of the fraction are dropped."""
    seconds, fraction = divmod(micros, 1_000_000)
    digits = f"{fraction:06d}{nanos:03d}".rstrip("0")
    return f"{_seconds(seconds)}.{digits}Z" if digits else f"{_seconds(seconds)}Z"


@lru_cache(maxsize=64)
def _seconds(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
