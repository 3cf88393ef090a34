"""Coinbase Advanced Trade: https://docs.cdp.coinbase.com/advanced-trade/docs/ws-channels

The whole book comes in band. `sequence_num` counts every frame of the socket, control frames included: one that is
missing spoils every product on it, and one that came in order proves every product current.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Literal

import msgspec

from cexdex.config import Venue as VenueConfig
from cexdex.domain.assets import Assets
from cexdex.domain.book import OrderBook
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from ingest.feed import (
    Channels,
    LevelSize,
    Listed,
    Output,
    Price,
    Reconnect,
    RefusedFrameError,
    Send,
    Stream,
    TradeSize,
    Venue,
)
from ingest.inverted import inverted_levels
from ingest.listing import listed_instrument
from ingest.livebook import LiveBook
from ingest.sync import Sequence as FrameSequence
from ingest.trades import TradeLog

SILENCE_US = 5_000_000
"""Heartbeats come each second: a socket that says nothing for so long is dead."""
FIRST_MESSAGE_US = 15_000_000
"""A product whose snapshot has not come after so long is not subscribed."""


class CoinbaseFeed:
    """level2, market_trades and heartbeats of some products on one socket."""

    def __init__(
        self, listed: Sequence[Listed], config: VenueConfig, assets: Assets, channels: Channels
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._products: dict[str, _Product] = {
            entry.instrument.symbol: _Product(
                LiveBook(
                    entry.instrument,
                    assets,
                    self.counts,
                    verified_within_us=int(config.verified_within_s * 1e6),
                    top_of_book=False,
                ),
                TradeLog(entry.instrument, self.counts),
            )
            for entry in listed
        }
        self._sequence = FrameSequence()
        self._connected_at = 0
        self._heard_at = 0
        self._gave_up = False
        self._closed = False

    def recall(self, own: Record) -> None:
        if isinstance(own, Trade):
            for product in self._products.values():
                if product.live.instrument.instrument == own.instrument:
                    product.trades.recall(own)

    def connected(self, now: Micros) -> Iterator[Output]:
        self._connected_at = self._heard_at = now
        for product in self._products.values():
            product.live.start(now)
        names = list(self._products)
        # one channel a message, the first within 5 s; heartbeats keep quiet channels from being closed after 60 s
        yield Send(msgspec.json.encode({"type": "subscribe", "channel": "heartbeats"}))
        for channel in ("level2", "market_trades"):
            yield Send(msgspec.json.encode({"type": "subscribe", "channel": channel, "product_ids": names}))

    def receive(self, frame: bytes, now: Micros) -> Iterator[Output]:
        try:
            message = _message.decode(frame)
        except msgspec.ValidationError:
            yield from self._unreadable(frame, now)
            raise
        missing = self._sequence.check(message.sequence_num)
        if missing < 0:
            self.counts["frames_repeated"] += 1
            return
        self._heard_at = now
        if missing:
            yield from self._gap(missing, now)
            return
        if isinstance(message, Level2):
            unknown = None
            for event in message.events:
                if event.product_id in self._products:
                    yield from self._book(event, now)
                else:
                    unknown = event.product_id
            if unknown is not None:
                raise RefusedFrameError(f"no subscription to product {unknown!r}")
        elif isinstance(message, MarketTrades):
            for batch in message.events:
                yield from self._trades(batch, now)
        elif isinstance(message, Ignored):
            self.counts["ignored"] += 1

    def fetched(self, tag: str, body: bytes, now: Micros) -> Iterator[Output]:
        return iter(())

    def on_time(self, now: Micros) -> Iterator[Output]:
        for name, product in self._products.items():
            live = product.live
            if live.whole and not self._closed:
                live.verified(self._heard_at)  # the counter covers the whole socket
            yield from live.on_time(now)
            if not live.whole and not self._closed and now - self._connected_at > FIRST_MESSAGE_US:
                self._connected_at = now
                yield Reconnect(f"{name}: no snapshot within {FIRST_MESSAGE_US // 1_000_000} s")
        if not self._closed and not self._gave_up and now - self._heard_at > SILENCE_US:
            self._gave_up = True
            yield Reconnect(f"silent for {SILENCE_US // 1_000_000} s")

    def lost(self, reason: str, now: Micros) -> Iterator[Output]:
        self._closed = True
        for product in self._products.values():
            yield from product.live.fail("ended" if reason == "ended" else "disconnected", now, "stale")

    def live(self) -> set[str]:
        return {p.live.instrument.instrument for p in self._products.values() if p.live.is_live}

    def _book(self, event: BookEvent, now: Micros) -> Iterator[Output]:
        live = self._of(event.product_id).live
        updates = event.updates
        bids = [(update.price_level, update.new_quantity) for update in updates if update.side == "bid"]
        asks = [(update.price_level, update.new_quantity) for update in updates if update.side == "offer"]
        if live.instrument.inverted:
            bids, asks = inverted_levels(asks), inverted_levels(bids)
        at = micros(max(update.event_time for update in updates)) if updates else None
        if event.type == "snapshot":
            yield from live.snapshot(OrderBook(bids, asks), (0.0, inf), now, event_time=at)
        elif not live.whole:
            self.counts["update_before_snapshot"] += 1
        elif updates:
            # removing a level that we do not hold is routine here, not a fault
            self.counts["orphan_deletes"] += live.book.bids.apply(bids) + live.book.asks.apply(asks)
            yield from live.updated(now, event_time=at)
            if live.crossed_too_long:
                yield from live.spoilt("gap", "crossed", now, "the book stayed crossed with itself")
                yield Reconnect(f"{event.product_id}: crossed")

    def _trades(self, batch: TradeBatch, now: Micros) -> Iterator[Output]:
        for trade in sorted(batch.trades, key=trade_number):
            # `side` is the maker's on both of Coinbase's feeds (measured: 73 of 78 trades against the mid before them)
            yield from self._of(trade.product_id).trades.trade(
                int(trade.trade_id),
                trade.price,
                trade.size,
                "sell" if trade.side == "BUY" else "buy",
                micros(trade.time),
                now,
                snapshot=batch.type == "snapshot",
            )

    def _gap(self, missing: int, now: Micros) -> Iterator[Output]:
        self.counts["gaps"] += 1
        for product in self._products.values():
            yield from product.live.spoilt(
                "gap", "gap", now, f"{missing} frames of the socket did not arrive", missing
            )
        yield Reconnect(f"{missing} frames missing before sequence_num")

    def _of(self, name: str) -> _Product:
        try:
            return self._products[name]
        except KeyError:
            raise RefusedFrameError(f"no subscription to product {name!r}") from None

    def _unreadable(self, frame: bytes, now: Micros) -> Iterator[Output]:
        """A frame of no known form still counts in the sequence; an error message ends the connection."""
        head = _head.decode(frame)
        if head.type == "error":
            yield Reconnect(f"Coinbase refused a request: {head.message[:200]!r}")
        elif head.sequence_num is not None:
            missing = self._sequence.check(head.sequence_num)
            # its content is unknown, and so is what it would have changed
            if missing > 0 or head.channel == "l2_data":
                yield from self._gap(max(missing, 1), now)


class _Product(msgspec.Struct):
    live: LiveBook
    trades: TradeLog


def trade_number(trade: TradeEntry) -> int:
    """Trades come newest first in a message."""
    return int(trade.trade_id)


def micros(at: datetime) -> Micros | None:
    """RFC 3339 to microseconds; the epoch itself stands for no time (documented snapshots)."""
    return round(at.timestamp() * 1e6) or None


# The venue's messages


class BookUpdate(msgspec.Struct, gc=False):
    """`{"side":"offer","event_time":"…","price_level":"78856.06","new_quantity":"0.08"}`: absolute, 0 removes."""

    side: Literal["bid", "offer"]
    event_time: datetime
    price_level: Price
    new_quantity: LevelSize


class BookEvent(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[BookUpdate]


class TradeEntry(msgspec.Struct, gc=False):
    """`{"trade_id":"995098700","product_id":"BTC-USD","price":"…","size":"…","side":"BUY","time":"…"}`"""

    trade_id: str
    product_id: str
    price: Price
    size: TradeSize
    side: Literal["BUY", "SELL"]
    time: datetime


class TradeBatch(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[TradeEntry]


class Envelope(msgspec.Struct, tag_field="channel", gc=False):
    sequence_num: int


class Level2(Envelope, tag="l2_data", gc=False):
    events: list[BookEvent]


class MarketTrades(Envelope, tag="market_trades", gc=False):
    events: list[TradeBatch]


class Heartbeats(Envelope, tag="heartbeats", gc=False):
    pass


class Subscriptions(Envelope, tag="subscriptions", gc=False):
    pass


class Ignored(Envelope, tag="ticker", gc=False):
    """Channels that we know and do not use."""


class IgnoredCandles(Ignored, tag="candles", gc=False):
    pass


class IgnoredBatch(Ignored, tag="ticker_batch", gc=False):
    pass


class IgnoredStatus(Ignored, tag="status", gc=False):
    pass


class Head(msgspec.Struct, gc=False):
    channel: str = ""
    type: str = ""
    message: str = ""
    sequence_num: int | None = None


class Product(msgspec.Struct):
    product_id: str
    base_currency_id: str
    quote_currency_id: str
    base_increment: float = 0.0
    price_increment: float = 0.0
    quote_increment: float = 0.0
    base_min_size: float = 0.0
    base_max_size: float = 0.0
    quote_min_size: float = 0.0
    status: str = ""
    is_disabled: bool = False
    trading_disabled: bool = False
    cancel_only: bool = False
    alias: str = ""


class Products(msgspec.Struct):
    products: list[Product]


_message = msgspec.json.Decoder(
    Level2
    | MarketTrades
    | Heartbeats
    | Subscriptions
    | Ignored
    | IgnoredCandles
    | IgnoredBatch
    | IgnoredStatus,
    strict=False,
)
_head = msgspec.json.Decoder(Head)
_products = msgspec.json.Decoder(Products, strict=False)


def parse_listing(body: bytes, config: VenueConfig, assets: Assets, now: Micros) -> list[Listed]:
    """`GET /api/v3/brokerage/market/products`; an alias (BTC-USDC of BTC-USD) shares the other product's book."""
    found = []
    for product in _products.decode(body).products:
        halted = product.is_disabled or product.trading_disabled or product.cancel_only
        found.append(
            listed_instrument(
                "coinbase",
                product.product_id,
                product.base_currency_id,
                product.quote_currency_id,
                config,
                assets,
                now,
                status="halted" if halted or product.status not in ("", "online") else "trading",
                alias_of=f"coinbase:{product.alias}" if product.alias else None,
                price_increment=product.price_increment or product.quote_increment,
                size_increment=product.base_increment,
                min_size=product.base_min_size,
                max_size=product.base_max_size,
                min_notional=product.quote_min_size,
            )
        )
    return [entry for entry in found if entry is not None]


def streams(frame: bytes) -> list[Stream]:
    """What a recorded frame belongs to."""
    head = _head.decode(frame)
    if head.channel == "l2_data":
        return [Stream("book", event.product_id) for event in _message.decode(frame).events]
    if head.channel == "market_trades":
        return [
            Stream("trade", t.product_id) for batch in _message.decode(frame).events for t in batch.trades
        ]
    return []


VENUE = Venue(
    id="coinbase",
    documents="https://docs.cdp.coinbase.com/advanced-trade/docs/ws-overview",
    listing_path="/api/v3/brokerage/market/products",
    parse_listing=parse_listing,
    feed=CoinbaseFeed,
    streams=streams,
    shard=4,
)
