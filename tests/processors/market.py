"""Small markets for tests: instruments, quotes and books in a line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cexdex.config import Config, load
from cexdex.records.book import Book
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import Record
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.trade import Trade

T0 = 1_700_000_000_000_000
"""A full ten seconds."""
S = 1_000_000


def config(**overrides: Any) -> Config:
    return load(overrides={"topics": {"partitions": 1}, "rules": [], **overrides})


def listed(instrument: str, *, fee: float = 10, at: int = T0, **fields: Any) -> Instrument:
    venue, symbol = instrument.split(":")
    base, quote = symbol.split("-")[:2]
    return Instrument(
        **{
            "received_at": at,
            "market": "BTC-USD" if base == "BTC" else symbol,
            "venue": venue,
            "instrument": instrument,
            "symbol": symbol,
            "base_asset": base,
            "quote_asset": quote,
            "taker_fee_bps": fee,
            "fee_source": "test",
            "status": "trading",
            **fields,
        }
    )


def quoted(
    instrument: str, bid: float | None, ask: float | None, at: int, ordinal: int | None = None, **fields: Any
) -> Quote:
    venue, symbol = instrument.split(":")
    base, quote = symbol.split("-")[:2]
    return Quote(
        **{
            "received_at": at,
            "market": "BTC-USD" if base == "BTC" else symbol,
            "venue": venue,
            "instrument": instrument,
            "base_asset": base,
            "quote_asset": quote,
            "bid": bid,
            "bid_size": None if bid is None else 1.0,
            "ask": ask,
            "ask_size": None if ask is None else 1.0,
            "session": 1,
            "ordinal": at if ordinal is None else ordinal,
            "sequence": None,
            "source": "book",
            "changed_at": at,
            "verified_at": at,
            "state": "live",
            "reason": None,
            **fields,
        }
    )


def booked(
    instrument: str, bids: list[tuple[float, float]], asks: list[tuple[float, float]], at: int, **fields: Any
) -> Book:
    symbol = instrument.split(":")[1]
    return Book(
        **{
            "received_at": at,
            "market": "BTC-USD" if symbol.startswith("BTC") else symbol,
            "instrument": instrument,
            "bids": bids,
            "asks": asks,
            "exact_levels": (len(bids), len(asks)),
            "reference_price": (bids[0][0] + asks[0][0]) / 2 if bids and asks else None,
            "bids_complete_to_bps": 200.0,
            "asks_complete_to_bps": 200.0,
            "session": 1,
            "ordinal": at,
            "sequence": None,
            "state": "live",
            "reason": None,
            **fields,
        }
    )


def traded(instrument: str, trade_id: str, price: float, size: float, at: int, **fields: Any) -> Trade:
    venue, symbol = instrument.split(":")
    return Trade(
        **{
            "event_time": at,
            "received_at": at,
            "market": "BTC-USD" if symbol.startswith("BTC") else symbol,
            "venue": venue,
            "instrument": instrument,
            "trade_id": trade_id,
            "price": price,
            "size": size,
            "taker_side": "buy",
            "quote_size": price * size,
            **fields,
        }
    )


def reference(
    instrument: str, bid: float | None, ask: float | None, at: int, **fields: Any
) -> ReferenceQuote:
    venue, symbol = instrument.split(":")
    base, quote = symbol.split("-")
    return ReferenceQuote(
        **{
            "received_at": at,
            "market": symbol,
            "venue": venue,
            "instrument": instrument,
            "base_asset": base,
            "quote_asset": quote,
            "bid": bid,
            "ask": ask,
            "taker_fee_bps": 10.0,
            "session": 1,
            "changed_at": at,
            "verified_at": at,
            "state": "live",
            "reason": None,
            **fields,
        }
    )


def rated(asset: str, rate: float | None, at: int, **fields: Any) -> Rate:
    return Rate(
        **{
            "received_at": at,
            "asset": asset,
            "rate": rate,
            "bid": rate,
            "ask": rate,
            "conversion_bps": 2.0,
            "path": [f"kraken:{asset}-USD"],
            "sources": [f"kraken:{asset}-USD"],
            "age_us": 0,
            "state": "live",
            "source_offset": 0,
            **fields,
        }
    )


def of(records: Iterable[Record], kind: type[Any], **fields: Any) -> list[Any]:
    """The records of one type whose fields have these values."""
    return [
        record
        for record in records
        if isinstance(record, kind) and all(getattr(record, name) == value for name, value in fields.items())
    ]
