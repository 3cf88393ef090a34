"""Records as a test wants them: everything but what it is about has a plain value."""

from __future__ import annotations

import time
from typing import Any

from cexdex.records.quote import Quote
from cexdex.records.record import Record, declarations
from cexdex.records.trade import Trade

MINUTE_US = 60_000_000
AT = time.time_ns() // 1000 // MINUTE_US * MINUTE_US - 10 * MINUTE_US
"""A whole minute of today, in microseconds: older rows would expire while they are looked at."""


def trade(number: int, *, at: int = AT, **changes: Any) -> Trade:
    fields: dict[str, Any] = {
        "event_time": at,
        "received_at": at + 1_000,
        "market": "BTC-USD",
        "venue": "binance",
        "instrument": "binance:BTC-USDT",
        "trade_id": str(number),
        "price": 100.0,
        "size": 1.0,
        "taker_side": "buy",
        "quote_size": 100.0,
    }
    return Trade(**fields | changes)


def quote(ordinal: int, *, at: int = AT, **changes: Any) -> Quote:
    fields: dict[str, Any] = {
        "event_time": at,
        "received_at": at,
        "market": "BTC-USD",
        "venue": "binance",
        "instrument": "binance:BTC-USDT",
        "base_asset": "BTC",
        "quote_asset": "USDT",
        "bid": 99.0,
        "bid_size": 1.0,
        "ask": 101.0,
        "ask_size": 2.0,
        "session": 1,
        "ordinal": ordinal,
        "sequence": ordinal,
        "source": "top",
        "changed_at": at,
        "verified_at": at,
        "state": "live",
        "reason": None,
    }
    return Quote(**fields | changes)


def any_record(tag: str, *, at: int = AT, **changes: Any) -> Record:
    """A record of any type, each field a value of its annotation."""
    from tests.sinks.values import plain

    declaration = declarations()[tag]
    return declaration.struct(**plain(declaration.struct, at) | changes)
