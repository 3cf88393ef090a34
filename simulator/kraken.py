"""Kraken's WebSocket v2: books cut to a depth, proved by a checksum of their best ten levels, numbers with all zeros."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from simulator.book import Book, Side
from simulator.faults import Disturbance
from simulator.kraken_frames import CHECKED, book_frame, checksum, instrument_row, trade_frame
from simulator.kraken_rest import KrakenRest
from simulator.listings import Listing, of_venue
from simulator.market import Change, Fill, Market
from simulator.text import rfc3339
from simulator.wire import NOT_FOUND, SWITCHING, Answer, Connection

DEPTHS = (10, 25, 100, 500, 1000)
_HEARTBEAT_US = 1_000_000
_INBOUND_PER_SECOND = 50
_SNAPSHOT_TRADES = 50


@dataclass(slots=True)
class _Session:
    books: dict[str, int] = field(default_factory=dict)  # symbol -> depth
    trades: dict[str, None] = field(default_factory=dict)
    owed: set[str] = field(default_factory=set)  # books whose snapshot a fault holds back
    instruments: bool = False
    subscribed: bool = False
    sent_at: int = 0


@dataclass(slots=True)
class _Scope:
    """How far a subscription of one depth sees each side; None is to the end."""

    depth: int
    worst_bid: int | None = None
    worst_ask: int | None = None

    def settle(self, book: Book) -> None:
        self.worst_bid = book.bids.at(self.depth - 1) if len(book.bids) > self.depth else None
        self.worst_ask = book.asks.at(self.depth - 1) if len(book.asks) > self.depth else None


@dataclass(slots=True)
class _Pair:
    listing: Listing
    scopes: dict[int, _Scope] = field(default_factory=dict)
    held_bids: dict[int, int] = field(default_factory=dict)
    held_asks: dict[int, int] = field(default_factory=dict)


class Kraken:
    name = "kraken"

    def __init__(self, market: Market) -> None:
        self.disturbance = Disturbance()
        self._market = market
        self._sessions: dict[Connection, _Session] = {}
        self._pairs = {listing.symbol: _Pair(listing) for listing in of_venue(self.name)}
        self._rest = KrakenRest(market)
        self._shut_down_at: int | None = None
        self._connection_id = 806_193_442_143_087_786  # above 2**53, as theirs are

    def connections(self) -> list[Connection]:
        return list(self._sessions)

    # Sockets

    def opened(self, connection: Connection, path: str, query: Mapping[str, str], now: int) -> int:
        if path != "/v2":
            return NOT_FOUND
        self._connection_id += 1
        self._sessions[connection] = _Session(sent_at=now)
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": self._connection_id,
        }
        self._send(connection, orjson.dumps({"channel": "status", "type": "update", "data": [status]}), now)
        return SWITCHING

    def received(self, connection: Connection, text: str, now: int) -> None:
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            self._send(
                connection, orjson.dumps({"error": "Malformed request", "success": False, **_times(now)}), now
            )
            return
        method, params = request.get("method"), request.get("params", {})
        if connection.exceeds(_INBOUND_PER_SECOND, now):
            self._fail(connection, request, "Exceeded msg rate", now)
            return
        match method:
            case "ping":
                self._reply(connection, request, {"method": "pong"}, now)
            case "subscribe" | "unsubscribe" if isinstance(params, dict):
                self._subscription(connection, request, method == "subscribe", params, now)
            case _:
                self._fail(connection, request, "Unsupported method", now)

    def ponged(self, connection: Connection, now: int) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        session = self._sessions.pop(connection, None)
        for symbol in session.books if session else ():
            self._forget_unused(symbol)

    def shut_down(self, now: int, seconds: float) -> None:
        self._shut_down_at = now + int(seconds * 1e6)

    def _subscription(
        self,
        connection: Connection,
        request: dict[str, object],
        subscribes: bool,
        params: dict[str, object],
        now: int,
    ) -> None:
        channel, symbols = params.get("channel"), params.get("symbol", [])
        if channel == "instrument":
            self._instrument(connection, request, subscribes, now)
            return
        if channel not in ("book", "trade"):
            self._fail(connection, request, "Channel not supported", now)
            return
        if not isinstance(symbols, list) or not symbols:
            self._fail(connection, request, "Symbol(s) not found", now)
            return
        depth = params.get("depth", 10)
        if channel == "book" and depth not in DEPTHS:
            self._fail(connection, request, "Subscription depth not supported", now)
            return
        # One acknowledgement per symbol.
        for symbol in symbols:
            if symbol not in self._pairs:
                self._fail(connection, request, f"Currency pair not supported {symbol}", now, symbol)
            elif channel == "book" and isinstance(depth, int):
                self._book_subscription(
                    connection, request, subscribes, symbol, depth, params.get("snapshot", True) is True, now
                )
            else:
                self._trade_subscription(
                    connection, request, subscribes, symbol, params.get("snapshot", False) is True, now
                )

    def _book_subscription(
        self,
        connection: Connection,
        request: dict[str, object],
        subscribes: bool,
        symbol: str,
        depth: int,
        snapshot: bool,
        now: int,
    ) -> None:
        session, pair = self._sessions[connection], self._pairs[symbol]
        if not subscribes:
            if session.books.get(symbol) != depth:
                self._fail(connection, request, "Subscription Not Found", now, symbol)
                return
            del session.books[symbol]
            session.owed.discard(symbol)
            self._forget_unused(symbol)
            self._reply(
                connection,
                request,
                _result("unsubscribe", {"channel": "book", "depth": depth, "symbol": symbol}),
                now,
            )
            return
        if symbol in session.books:
            self._fail(connection, request, "Already subscribed", now, symbol)
            return
        session.books[symbol] = depth
        session.subscribed = True
        if depth not in pair.scopes:
            pair.scopes[depth] = _Scope(depth)
            pair.scopes[depth].settle(self._book(pair))
        result = {"channel": "book", "depth": depth, "snapshot": snapshot, "symbol": symbol}
        self._reply(connection, request, _result("subscribe", result), now)
        if snapshot and self.disturbance.is_silent(pair.listing.instrument, now):
            session.owed.add(symbol)
        elif snapshot:
            self._send_snapshot(connection, pair, depth, now)

    def _trade_subscription(
        self,
        connection: Connection,
        request: dict[str, object],
        subscribes: bool,
        symbol: str,
        snapshot: bool,
        now: int,
    ) -> None:
        session, pair = self._sessions[connection], self._pairs[symbol]
        if not subscribes:
            if symbol not in session.trades:
                self._fail(connection, request, "Subscription Not Found", now, symbol)
                return
            del session.trades[symbol]
            self._reply(
                connection, request, _result("unsubscribe", {"channel": "trade", "symbol": symbol}), now
            )
            return
        if symbol in session.trades:
            self._fail(connection, request, "Already subscribed", now, symbol)
            return
        session.trades[symbol] = None
        session.subscribed = True
        result = {"channel": "trade", "snapshot": snapshot, "symbol": symbol}
        self._reply(connection, request, _result("subscribe", result), now)
        if snapshot:
            recent = list(self._market.quoting[pair.listing.instrument].recent)[-_SNAPSHOT_TRADES:]
            self._send(connection, trade_frame("snapshot", pair.listing, recent), now)

    def _instrument(
        self, connection: Connection, request: dict[str, object], subscribes: bool, now: int
    ) -> None:
        session = self._sessions[connection]
        session.instruments = subscribes
        session.subscribed |= subscribes
        method = "subscribe" if subscribes else "unsubscribe"
        self._reply(connection, request, _result(method, {"channel": "instrument", "snapshot": True}), now)
        if subscribes:
            pairs = ",".join(instrument_row(pair.listing) for pair in self._pairs.values())
            frame = f'{{"channel":"instrument","type":"snapshot","data":{{"assets":[],"pairs":[{pairs}]}}}}'
            self._send(connection, frame.encode(), now)

    def _reply(
        self, connection: Connection, request: dict[str, object], body: dict[str, object], now: int
    ) -> None:
        req_id = {"req_id": request["req_id"]} if "req_id" in request else {}
        self._send(connection, orjson.dumps({**body, **req_id, **_times(now)}), now)

    def _fail(
        self,
        connection: Connection,
        request: dict[str, object],
        error: str,
        now: int,
        symbol: str | None = None,
    ) -> None:
        body: dict[str, object] = {"error": error, "method": request.get("method"), "success": False}
        if symbol is not None:
            body["symbol"] = symbol
        self._reply(connection, request, body, now)

    def _forget_unused(self, symbol: str) -> None:
        used = {session.books.get(symbol) for session in self._sessions.values()}
        scopes = self._pairs[symbol].scopes
        for depth in [depth for depth in scopes if depth not in used]:
            del scopes[depth]

    # Frames

    def publish(self, change: Change) -> None:
        pair = self._pairs[change.listing.symbol]
        if change.fills:
            self._emit_trades(pair, change.fills, change.at)
        for held, changed in ((pair.held_bids, change.bids), (pair.held_asks, change.asks)):
            for price, before in changed.items():
                held.setdefault(price, before)
        if not self.disturbance.is_silent(change.listing.instrument, change.at):
            self._emit_book(pair, change.at)

    def tick(self, now: int) -> None:
        for connection, session in self._sessions.items():
            # Only when nothing else is sent.
            if session.subscribed and now - session.sent_at >= _HEARTBEAT_US:
                self._send(connection, b'{"channel":"heartbeat"}', now)
        if self._shut_down_at is not None and now >= self._shut_down_at:
            self._shut_down_at = None
            for connection in self._sessions:
                connection.close(1001, "going away")

    def _emit_trades(self, pair: _Pair, fills: list[Fill], at: int) -> None:
        symbol = pair.listing.symbol
        frame = b""
        for connection, session in self._sessions.items():
            if symbol in session.trades:
                frame = frame or trade_frame("update", pair.listing, fills)
                self._send(connection, frame, at)

    def _emit_book(self, pair: _Pair, at: int) -> None:
        bids, asks = pair.held_bids, pair.held_asks
        pair.held_bids, pair.held_asks = {}, {}
        if not pair.scopes or not (bids or asks):
            return
        book, symbol = self._book(pair), pair.listing.symbol
        owed = {connection for connection, session in self._sessions.items() if symbol in session.owed}
        crc: int | None = None
        lost = wrong = False
        for depth, scope in pair.scopes.items():
            seen_bid, seen_ask = scope.worst_bid, scope.worst_ask
            scope.settle(book)
            bid_levels = list(_in_scope(book.bids, bids, seen_bid, scope.worst_bid))
            ask_levels = list(_in_scope(book.asks, asks, seen_ask, scope.worst_ask))
            if not bid_levels and not ask_levels:
                continue
            if crc is None:
                crc = checksum(book)
                # Only a loss among the best ten can be noticed.
                checked = _among_best(book.bids, bids) or _among_best(book.asks, asks)
                lost = checked and self.disturbance.take_gap(pair.listing.instrument)
                wrong = self.disturbance.take_checksum(pair.listing.instrument)
            if lost:
                continue
            frame = book_frame("update", pair.listing, book, bid_levels, ask_levels, crc ^ wrong, at)
            for connection, session in self._sessions.items():
                if session.books.get(symbol) == depth and connection not in owed:
                    self._send(connection, frame, at)
        for connection in owed:
            self._sessions[connection].owed.discard(symbol)
            self._send_snapshot(connection, pair, self._sessions[connection].books[symbol], at)

    def _send_snapshot(self, connection: Connection, pair: _Pair, depth: int, at: int) -> None:
        book = self._book(pair)
        bids, asks = book.bids.top(depth), book.asks.top(depth)
        self._send(connection, book_frame("snapshot", pair.listing, book, bids, asks, checksum(book), at), at)

    def _send(self, connection: Connection, frame: bytes, now: int) -> None:
        self._sessions[connection].sent_at = now
        connection.send(frame)

    def _book(self, pair: _Pair) -> Book:
        return self._market.book(pair.listing.instrument)

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        return self._rest.get(path, query, now)


def _in_scope(side: Side, changed: Mapping[int, int], seen: int | None, sees: int | None) -> Iterator[int]:
    """The levels to send: those that changed where the client looks, then those that come back into its depth.

    Nothing is said of a level that others push out of the depth: the client cuts its book itself.
    """
    for price, before in changed.items():
        size = side.sizes.get(price, 0)
        if size == before:
            continue
        if _reaches(side, price, sees if size else seen):
            yield price
    if seen is not None:
        for price in side.between(seen, sees):
            if price not in changed:
                yield price


def _reaches(side: Side, price: int, worst: int | None) -> bool:
    return worst is None or (price >= worst if side.is_bids else price <= worst)


def _among_best(side: Side, changed: Mapping[int, int]) -> bool:
    worst = side.at(min(CHECKED, len(side)) - 1)
    return any(
        _reaches(side, price, worst) and side.sizes.get(price, 0) != before
        for price, before in changed.items()
    )


def _result(method: str, result: dict[str, object]) -> dict[str, object]:
    return {"method": method, "result": result, "success": True}


def _times(now: int) -> dict[str, str]:
    return {"time_in": rfc3339(now), "time_out": rfc3339(now + 58)}
