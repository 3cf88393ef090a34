"""Coinbase Advanced Trade: one channel a subscription, one sequence over every frame of a socket, whole books in band."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from simulator.book import Book
from simulator.coinbase_rest import ALIASES, CoinbaseRest, trade_row
from simulator.faults import Disturbance
from simulator.listings import Listing, of_venue
from simulator.market import Change, Fill, Market
from simulator.text import rfc3339, rfc3339_trimmed, trimmed
from simulator.wire import NOT_FOUND, SWITCHING, TOO_MANY, Answer, Attempts, Connection

_FIRST_SUBSCRIBE_US = 5_000_000
_INBOUND_PER_SECOND = 8
_ATTEMPTS_PER_SECOND = 8
_TRADES_US = 250_000
_HEARTBEAT_US = 1_000_000
_SNAPSHOT_TRADES = 100
_CHANNELS = ("level2", "market_trades", "heartbeats")


@dataclass(slots=True)
class _Session:
    opened_at: int
    sequence: int = 0
    channels: dict[str, dict[str, None]] = field(default_factory=dict)
    owed: set[str] = field(default_factory=set)  # products whose book is still to come
    beat_at: int = 0


@dataclass(slots=True)
class _Product:
    listing: Listing
    trades: list[Fill] = field(default_factory=list)
    held_bids: dict[int, int] = field(default_factory=dict)
    held_asks: dict[int, int] = field(default_factory=dict)
    updates: int = 0


class Coinbase:
    name = "coinbase"

    def __init__(self, market: Market) -> None:
        self.disturbance = Disturbance()
        self._market = market
        self._started_at = market.now
        self._attempts = Attempts(_ATTEMPTS_PER_SECOND, 1_000_000)
        self._sessions: dict[Connection, _Session] = {}
        self._products = {listing.symbol: _Product(listing) for listing in of_venue(self.name)}
        self._rest = CoinbaseRest(market)
        self._trades_window = market.now // _TRADES_US
        self._shut_down_at: int | None = None

    def connections(self) -> list[Connection]:
        return list(self._sessions)

    # Sockets

    def opened(self, connection: Connection, path: str, query: Mapping[str, str], now: int) -> int:
        if self._attempts.exceed(now):
            return TOO_MANY
        if path not in ("/", "/ws"):
            return NOT_FOUND
        self._sessions[connection] = _Session(opened_at=now)
        return SWITCHING

    def received(self, connection: Connection, text: str, now: int) -> None:
        if connection.exceeds(_INBOUND_PER_SECOND, now):
            _refuse(connection, "rate limit exceeded")
            return
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            _refuse(connection, "failed to parse message")
            return
        channel, products = request.get("channel"), request.get("product_ids", [])
        if channel not in _CHANNELS:
            # Also what a list of channels gets: it is one channel per message.
            _refuse(connection, f"channel {channel!r} is not a valid channel")
            return
        if not isinstance(products, list) or not all(isinstance(product, str) for product in products):
            _refuse(connection, "product_ids must be a list of products")
            return
        match request.get("type"):
            case "subscribe":
                self._subscribe(connection, channel, products, now)
            case "unsubscribe":
                self._unsubscribe(connection, channel, products, now)
            case other:
                _refuse(connection, f"type {other!r} is not subscribe or unsubscribe")

    def ponged(self, connection: Connection, now: int) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        self._sessions.pop(connection, None)

    def shut_down(self, now: int, seconds: float) -> None:
        """Coinbase announces nothing."""
        self._shut_down_at = now + int(seconds * 1e6)

    def _subscribe(self, connection: Connection, channel: str, products: list[str], now: int) -> None:
        session = self._sessions[connection]
        if channel == "heartbeats":
            session.channels[channel] = {"heartbeats": None}
            session.beat_at = now
            self._acknowledge(connection, session, now)
            return
        real = list(dict.fromkeys(ALIASES.get(product, product) for product in products))
        unknown = [product for product in real if product not in self._products]
        if unknown or not real:
            _refuse(connection, f"Failure to subscribe: unknown products {unknown}")
            return
        # The acknowledgement can come after the first snapshot and update: seen live.
        for product in real:
            session.channels.setdefault(channel, {})[product] = None
            if channel == "level2":
                session.owed.add(product)
                if not self.disturbance.is_silent(self._products[product].listing.instrument, now):
                    self._send_book(connection, session, self._products[product].listing, now)
            else:
                self._send_recent(connection, session, self._products[product], now)
        self._acknowledge(connection, session, now)

    def _unsubscribe(self, connection: Connection, channel: str, products: list[str], now: int) -> None:
        session = self._sessions[connection]
        subscribed = session.channels.get(channel, {})
        # No products means all of them.
        for product in [ALIASES.get(product, product) for product in products] or list(subscribed):
            subscribed.pop(product, None)
        if not subscribed:
            session.channels.pop(channel, None)
        self._acknowledge(connection, session, now)

    def _acknowledge(self, connection: Connection, session: _Session, now: int) -> None:
        channels = {channel: list(products) for channel, products in sorted(session.channels.items())}
        event = orjson.dumps({"subscriptions": channels}).decode()
        self._send(connection, session, "subscriptions", event, now)

    def _send_book(self, connection: Connection, session: _Session, listing: Listing, now: int) -> None:
        book = self._market.book(listing.instrument)
        session.owed.discard(listing.symbol)
        self._send(connection, session, "l2_data", _book_event(listing, book, now), now)
        self._send(connection, session, "l2_data", _level_event("update", listing.symbol, []), now)

    def _send_recent(self, connection: Connection, session: _Session, product: _Product, now: int) -> None:
        """The last trades, newest first, up to the batch that is still being collected."""
        recent = list(self._market.quoting[product.listing.instrument].recent)
        told = recent[: len(recent) - len(product.trades)]
        event = _trade_event("snapshot", product.listing, told[-_SNAPSHOT_TRADES:][::-1])
        self._send(connection, session, "market_trades", event, now)

    # Frames

    def publish(self, change: Change) -> None:
        product = self._products[change.listing.symbol]
        product.trades.extend(change.fills)
        for held, changed in ((product.held_bids, change.bids), (product.held_asks, change.asks)):
            for price, before in changed.items():
                held.setdefault(price, before)
        if self.disturbance.is_silent(change.listing.instrument, change.at):
            return
        self._emit_levels(product, change.at)

    def tick(self, now: int) -> None:
        window = now // _TRADES_US
        if window != self._trades_window:
            self._trades_window = window
            for product in self._products.values():
                self._emit_trades(product, now)
        for connection, session in self._sessions.items():
            if (
                not session.channels
                and not session.sequence
                and now - session.opened_at >= _FIRST_SUBSCRIBE_US
            ):
                connection.close(1008, "no subscription within 5 seconds")
            if "heartbeats" in session.channels and now >= session.beat_at:
                session.beat_at += _HEARTBEAT_US
                self._send(connection, session, "heartbeats", self._heartbeat(now), now)
        if self._shut_down_at is not None and now >= self._shut_down_at:
            self._shut_down_at = None
            for connection in self._sessions:
                connection.close(1001, "going away")

    def _emit_levels(self, product: _Product, at: int) -> None:
        listing, symbol = product.listing, product.listing.symbol
        book = self._market.book(listing.instrument)
        bids, asks = product.held_bids, product.held_asks
        product.held_bids, product.held_asks = {}, {}
        if not bids and not asks:
            return
        product.updates += 1
        rows = [
            *_rows(listing, "bid", book.bids.sizes, bids, at),
            *_rows(listing, "offer", book.asks.sizes, asks, at),
        ]
        event = _level_event("update", symbol, rows)
        empty = _level_event("update", symbol, []) if product.updates % 40 == 0 else None
        lost = self.disturbance.take_gap(listing.instrument)
        for connection, session in self._sessions.items():
            if symbol not in session.channels.get("level2", ()):
                continue
            if symbol in session.owed:
                self._send_book(connection, session, listing, at)
                continue
            if lost:
                # The frame was numbered and never arrives, which is all that a gap is.
                session.sequence += 1
                continue
            self._send(connection, session, "l2_data", event, at)
            if empty:
                self._send(connection, session, "l2_data", empty, at)

    def _emit_trades(self, product: _Product, now: int) -> None:
        fills, product.trades = product.trades, []
        if not fills:
            return
        event = _trade_event("update", product.listing, fills)
        for connection, session in self._sessions.items():
            if product.listing.symbol in session.channels.get("market_trades", ()):
                self._send(connection, session, "market_trades", event, now)

    def _heartbeat(self, now: int) -> str:
        up = now - self._started_at
        # Go's own time format, monotonic clock and all.
        text = rfc3339(now).replace("T", " ").rstrip("Z")
        return f'{{"current_time":"{text} +0000 UTC m=+{up / 1e6:.6f}","heartbeat_counter":{up // _HEARTBEAT_US}}}'

    def _send(self, connection: Connection, session: _Session, channel: str, event: str, at: int) -> None:
        stamp = rfc3339_trimmed(at, 1 + session.sequence % 999)
        frame = f'{{"channel":"{channel}","timestamp":"{stamp}","sequence_num":{session.sequence},"events":[{event}]}}'
        session.sequence += 1
        connection.send(frame.encode())

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        return self._rest.get(path, query, now)


def _refuse(connection: Connection, message: str) -> None:
    """Errors are not numbered."""
    connection.send(orjson.dumps({"type": "error", "message": message}))


def _book_event(listing: Listing, book: Book, at: int) -> str:
    rows = [
        *_rows(listing, "bid", book.bids.sizes, book.bids.top(len(book.bids)), at),
        *_rows(listing, "offer", book.asks.sizes, book.asks.top(len(book.asks)), at),
    ]
    return _level_event("snapshot", listing.symbol, rows)


def _level_event(kind: str, symbol: str, rows: list[str]) -> str:
    return f'{{"type":"{kind}","product_id":"{symbol}","updates":[{",".join(rows)}]}}'


def _rows(
    listing: Listing, side: str, sizes: dict[int, int], prices: Mapping[int, int] | list[int], at: int
) -> list[str]:
    time = rfc3339_trimmed(at)
    price_decimals, size_decimals = listing.price_decimals, listing.size_decimals
    return [
        f'{{"side":"{side}","event_time":"{time}","price_level":"{trimmed(price, price_decimals)}",'
        f'"new_quantity":"{trimmed(sizes.get(price, 0), size_decimals)}"}}'
        for price in prices
    ]


def _trade_event(kind: str, listing: Listing, fills: list[Fill]) -> str:
    return orjson.dumps({"type": kind, "trades": [trade_row(listing, fill) for fill in fills]}).decode()
