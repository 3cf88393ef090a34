"""Coinbase Advanced Trade: one channel a subscription, one sequence over every frame of a socket, whole books in band."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from simulator.book import Book
from simulator.faults import Disturbance
from simulator.listings import Listing, of_venue
from simulator.market import Change, Fill, Market
from simulator.text import rfc3339, rfc3339_trimmed, trimmed
from simulator.wire import Answer, Connection, answer

_FIRST_SUBSCRIBE_US = 5_000_000
_INBOUND_PER_SECOND = 8
_TRADES_US = 250_000
_HEARTBEAT_US = 1_000_000
_SNAPSHOT_TRADES = 100
_CHANNELS = ("level2", "market_trades", "heartbeats")

# A product that is another's book under a second name: subscribing to it gives the other's messages.
_ALIASES = {"BTC-USDC": "BTC-USD", "ETH-USDC": "ETH-USD"}
_NAMES = {"BTC": "Bitcoin", "ETH": "Ethereum", "USDT": "Tether", "USD": "US Dollar", "USDC": "USDC"}


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
        self._sessions: dict[Connection, _Session] = {}
        self._products = {listing.symbol: _Product(listing) for listing in of_venue(self.name)}
        self._trades_window = market.now // _TRADES_US
        self._shut_down_at: int | None = None

    def connections(self) -> list[Connection]:
        return list(self._sessions)

    # Sockets

    def opened(self, connection: Connection, path: str, query: Mapping[str, str], now: int) -> bool:
        if path not in ("/", "/ws"):
            return False
        self._sessions[connection] = _Session(opened_at=now)
        return True

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
        real = list(dict.fromkeys(_ALIASES.get(product, product) for product in products))
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
        for product in [_ALIASES.get(product, product) for product in products] or list(subscribed):
            subscribed.pop(product, None)
        if not subscribed:
            session.channels.pop(channel, None)
        self._acknowledge(connection, session, now)

    def _acknowledge(self, connection: Connection, session: _Session, now: int) -> None:
        channels = {channel: list(products) for channel, products in sorted(session.channels.items())}
        event = orjson.dumps({"subscriptions": channels}).decode()
        self._send(connection, session, "subscriptions", event, now)

    def _send_book(self, connection: Connection, session: _Session, listing: Listing, now: int) -> None:
        book = self._market.quoting[listing.instrument].book
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
        book = self._market.quoting[listing.instrument].book
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

    # REST

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        prefix = "/api/v3/brokerage"
        product = _ALIASES.get(query.get("product_id", ""), query.get("product_id", ""))
        parts = path.removeprefix(prefix).removeprefix("/market").strip("/").split("/")
        match parts if path.startswith(prefix) else []:
            case ["time"]:
                return answer(
                    {
                        "iso": rfc3339(now),
                        "epochSeconds": str(now // 1_000_000),
                        "epochMillis": str(now // 1000),
                    }
                )
            case ["products"]:
                rows = [*(self._product_row(p.listing) for p in self._products.values()), *self._alias_rows()]
                return answer({"products": rows, "num_products": len(rows), "pagination": None})
            case ["products", name, "ticker"] if _ALIASES.get(name, name) in self._products:
                return self._recent(self._products[_ALIASES.get(name, name)].listing, query)
            case ["product_book"] if product in self._products:
                return self._product_book(self._products[product].listing, query, now)
            case _:
                return answer(
                    {"error": "NOT_FOUND", "error_details": "not found", "message": "not found"}, 404
                )

    def _recent(self, listing: Listing, query: Mapping[str, str]) -> Answer:
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 100
        quoting = self._market.quoting[listing.instrument]
        fills = list(quoting.recent)[-limit:][::-1] if limit else []
        bid, _, ask, _ = quoting.book.touch()
        return answer(
            {
                "trades": [_trade_row(listing, fill) for fill in fills],
                "best_bid": trimmed(bid, listing.price_decimals),
                "best_ask": trimmed(ask, listing.price_decimals),
            }
        )

    def _product_book(self, listing: Listing, query: Mapping[str, str], now: int) -> Answer:
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 10_000
        book = self._market.quoting[listing.instrument].book
        sides = {
            name: [
                {
                    "price": trimmed(price, listing.price_decimals),
                    "size": trimmed(side.sizes[price], listing.size_decimals),
                }
                for price in side.top(limit)
            ]
            for name, side in (("bids", book.bids), ("asks", book.asks))
        }
        return answer({"pricebook": {"product_id": listing.symbol, **sides, "time": rfc3339_trimmed(now)}})

    def _product_row(self, listing: Listing) -> dict[str, object]:
        bid = self._market.quoting[listing.instrument].book.bids.best
        tick, step = trimmed(1, listing.price_decimals), trimmed(1, listing.size_decimals)
        return {
            "product_id": listing.symbol,
            "price": trimmed(bid, listing.price_decimals),
            "base_increment": step,
            "quote_increment": tick,
            "quote_min_size": "1",
            "quote_max_size": "150000000",
            "base_min_size": step,
            "base_max_size": {"BTC": "3400", "ETH": "42000"}.get(listing.base, "10480600"),
            "base_name": _NAMES[listing.base],
            "quote_name": _NAMES[listing.quote],
            "is_disabled": False,
            "new": False,
            "status": "online",
            "cancel_only": False,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": False,
            "auction_mode": False,
            "product_type": "SPOT",
            "quote_currency_id": listing.quote,
            "base_currency_id": listing.base,
            "mid_market_price": "",
            "alias": "",
            "alias_to": [alias for alias, real in _ALIASES.items() if real == listing.symbol],
            "base_display_symbol": listing.base,
            "quote_display_symbol": "USD",
            "view_only": False,
            "price_increment": tick,
            "display_name": listing.symbol,
            "product_venue": "CBE",
        }

    def _alias_rows(self) -> list[dict[str, object]]:
        rows = []
        for alias, real in _ALIASES.items():
            row = self._product_row(self._products[real].listing)
            quote = alias.split("-")[1]
            row |= {
                "product_id": alias,
                "display_name": alias,
                "quote_currency_id": quote,
                "quote_name": _NAMES[quote],
            }
            rows.append(row | {"alias": real, "alias_to": []})
        return rows


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
    return orjson.dumps({"type": kind, "trades": [_trade_row(listing, fill) for fill in fills]}).decode()


def _trade_row(listing: Listing, fill: Fill) -> dict[str, str]:
    return {
        "product_id": listing.symbol,
        "trade_id": str(fill.trade_id),
        "price": trimmed(fill.price, listing.price_decimals),
        "size": trimmed(fill.size, listing.size_decimals),
        "time": rfc3339_trimmed(fill.at),
        # The maker's side: SELL stands above the mid, where the taker bought.
        "side": "SELL" if fill.taker_buys else "BUY",
    }
