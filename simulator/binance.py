"""Binance spot: streams with U..u update ids, and the REST snapshot that they are bridged to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import orjson

from simulator.binance_rest import BinanceRest, book_text, levels_text
from simulator.faults import Disturbance
from simulator.listings import Listing, of_venue
from simulator.market import Change, Fill, Market
from simulator.text import eight
from simulator.wire import NOT_FOUND, SWITCHING, TOO_MANY, Answer, Attempts, Connection

_INBOUND_PER_SECOND = 5  # pings, pongs and JSON each count
_STREAMS_PER_CONNECTION = 1024
_ATTEMPTS, _ATTEMPTS_WITHIN_US = 300, 300_000_000
_PING_US = 20_000_000
_PONG_WITHIN_US = 60_000_000
_FAST_US, _SLOW_US = 100_000, 1_000_000
_WEIGHT_PER_MINUTE = 6_000


@dataclass(slots=True)
class _Session:
    combined: bool
    micros: bool
    streams: dict[str, None] = field(default_factory=dict)
    pinged_at: int = 0
    ponged_at: int = 0


@dataclass(slots=True)
class _Diff:
    """The levels that changed since the last frame of one diff stream."""

    sent: int
    bids: dict[int, None] = field(default_factory=dict)
    asks: dict[int, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Symbol:
    listing: Listing
    update_id: int
    fast: _Diff
    slow: _Diff
    aggregate_id: int = 500_000


class Binance:
    name = "binance"

    def __init__(self, market: Market, weight_per_minute: int = _WEIGHT_PER_MINUTE) -> None:
        self.disturbance = Disturbance()
        self._market = market
        self._attempts = Attempts(_ATTEMPTS, _ATTEMPTS_WITHIN_US)
        self._sessions: dict[Connection, _Session] = {}
        self._subscribers: dict[str, dict[Connection, None]] = {}
        self._symbols: dict[str, _Symbol] = {}
        for index, listing in enumerate(of_venue(self.name)):
            first = 50_000_000_000 + index * 1_000_000_000
            self._symbols[listing.symbol] = _Symbol(listing, first, _Diff(first), _Diff(first))
        self._window = market.now // _FAST_US
        self._shut_down_at: int | None = None
        self._rest = BinanceRest(market, lambda symbol: self._symbols[symbol].update_id, weight_per_minute)

    def connections(self) -> list[Connection]:
        return list(self._sessions)

    # Sockets

    def opened(self, connection: Connection, path: str, query: Mapping[str, str], now: int) -> int:
        if self._attempts.exceed(now):
            return TOO_MANY
        raw = path == "/ws" or path.startswith("/ws/")
        if not raw and path != "/stream":
            return NOT_FOUND
        micros = query.get("timeUnit", "").upper() == "MICROSECOND"
        session = _Session(combined=not raw, micros=micros, pinged_at=now, ponged_at=now)
        self._sessions[connection] = session
        named = path.removeprefix("/ws").strip("/") if raw else query.get("streams", "")
        self._subscribe(connection, [name for name in named.split("/") if name])
        return SWITCHING

    def received(self, connection: Connection, text: str, now: int) -> None:
        if connection.exceeds(_INBOUND_PER_SECOND, now):
            connection.close(1008, "Too many requests")
            return
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            connection.send(orjson.dumps({"code": 3, "msg": f"Invalid JSON: {error}"}))
            return
        reply = self._respond(connection, request)
        connection.send(orjson.dumps(reply))

    def ponged(self, connection: Connection, now: int) -> None:
        self._sessions[connection].ponged_at = now
        if connection.exceeds(_INBOUND_PER_SECOND, now):
            connection.close(1008, "Too many requests")

    def closed(self, connection: Connection) -> None:
        session = self._sessions.pop(connection, None)
        for stream in session.streams if session else ():
            self._drop(connection, stream)

    def _respond(self, connection: Connection, request: object) -> dict[str, object]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return {"code": 2, "msg": "Invalid request: request must be a JSON object with a method"}
        request_id, params = request.get("id"), request.get("params", [])
        session = self._sessions[connection]
        names = params if isinstance(params, list) and all(isinstance(name, str) for name in params) else None
        match request["method"]:
            case "SUBSCRIBE" if names is not None:
                # An unknown symbol is accepted too, and never gives anything.
                self._subscribe(connection, names)
                return {"result": None, "id": request_id}
            case "UNSUBSCRIBE" if names is not None:
                for name in names:
                    session.streams.pop(name, None)
                    self._drop(connection, name)
                return {"result": None, "id": request_id}
            case "LIST_SUBSCRIPTIONS":
                return {"result": list(session.streams), "id": request_id}
            case "SET_PROPERTY" if isinstance(params, list) and len(params) == 2 and params[0] == "combined":
                if not isinstance(params[1], bool):
                    return {"code": 1, "msg": "Invalid value type: expected Boolean", "id": request_id}
                session.combined = params[1]
                return {"result": None, "id": request_id}
            case "GET_PROPERTY" if params == ["combined"]:
                return {"result": session.combined, "id": request_id}
            case _:
                return {"code": 2, "msg": "Invalid request: unknown method or params", "id": request_id}

    def _subscribe(self, connection: Connection, streams: list[str]) -> None:
        session = self._sessions[connection]
        for stream in streams:
            session.streams[stream] = None
            self._subscribers.setdefault(stream, {})[connection] = None
        if len(session.streams) > _STREAMS_PER_CONNECTION:
            connection.close(1008, "Too many streams")

    def _drop(self, connection: Connection, stream: str) -> None:
        subscribers = self._subscribers.get(stream, {})
        subscribers.pop(connection, None)
        if not subscribers:
            self._subscribers.pop(stream, None)

    def shut_down(self, now: int, seconds: float) -> None:
        """Since 2026-05 a notice precedes a planned close, on every connection."""
        self._shut_down_at = now + int(seconds * 1e6)
        for connection, session in self._sessions.items():
            time = now if session.micros else now // 1000
            notice = f'{{"e":"serverShutdown","E":{time}}}'
            text = f'{{"stream":"!serverShutdown","data":{notice}}}' if session.combined else notice
            connection.send(text.encode())

    # Streams

    def publish(self, change: Change) -> None:
        symbol = self._symbols[change.listing.symbol]
        symbol.update_id += len(change.bids) + len(change.asks)
        for diff in (symbol.fast, symbol.slow):
            diff.bids.update(dict.fromkeys(change.bids))
            diff.asks.update(dict.fromkeys(change.asks))
        if change.fills:
            self._emit_trades(symbol, change.fills)
        if change.touch_moved and not self.disturbance.is_silent(change.listing.instrument, change.at):
            self._emit_ticker(symbol)

    def tick(self, now: int) -> None:
        window = now // _FAST_US
        if window != self._window:
            self._window = window
            for symbol in self._symbols.values():
                self._emit_depth(symbol, now)
        if self._shut_down_at is not None and now >= self._shut_down_at:
            self._shut_down_at = None
            for connection in self._sessions:
                connection.close(1001, "server shutdown")
        for connection, session in self._sessions.items():
            if now - session.pinged_at >= _PING_US:
                session.pinged_at = now
                connection.ping(b"%d" % (now // 1000))
            if now - session.ponged_at >= _PONG_WITHIN_US:
                connection.close(1008, "Pong timeout")

    def _emit_trades(self, symbol: _Symbol, fills: list[Fill]) -> None:
        listing = symbol.listing
        name = listing.symbol.lower()
        for fill in fills:
            self._emit(f"{name}@trade", partial(_trade, listing, fill))
        for price_ticks in dict.fromkeys(fill.price for fill in fills):
            merged = [fill for fill in fills if fill.price == price_ticks]
            symbol.aggregate_id += 1
            self._emit(f"{name}@aggTrade", partial(_aggregate, listing, symbol.aggregate_id, merged))

    def _emit_ticker(self, symbol: _Symbol) -> None:
        listing = symbol.listing

        def ticker(_: Callable[[int], int]) -> str:
            bid, bid_size, ask, ask_size = self._market.book(listing.instrument).touch()
            prices, sizes = listing.price_decimals, listing.size_decimals
            return (
                f'{{"u":{symbol.update_id},"s":"{listing.symbol}","b":"{eight(bid, prices)}","B":"{eight(bid_size, sizes)}",'
                f'"a":"{eight(ask, prices)}","A":"{eight(ask_size, sizes)}"}}'
            )

        self._emit(f"{listing.symbol.lower()}@bookTicker", ticker)

    def _emit_depth(self, symbol: _Symbol, now: int) -> None:
        if self.disturbance.is_silent(symbol.listing.instrument, now):
            return
        name = symbol.listing.symbol.lower()
        slow_due = now % _SLOW_US == 0
        if symbol.fast.bids or symbol.fast.asks:
            if not self.disturbance.take_gap(symbol.listing.instrument):
                self._emit_diff(f"{name}@depth@100ms", symbol, symbol.fast, now)
            symbol.fast = _Diff(symbol.update_id)
        if slow_due and (symbol.slow.bids or symbol.slow.asks):
            self._emit_diff(f"{name}@depth", symbol, symbol.slow, now)
            symbol.slow = _Diff(symbol.update_id)
        for levels in (5, 10, 20):
            write = partial(self._partial, symbol, levels)
            self._emit(f"{name}@depth{levels}@100ms", write)
            if slow_due:
                self._emit(f"{name}@depth{levels}", write)

    def _emit_diff(self, stream: str, symbol: _Symbol, diff: _Diff, now: int) -> None:
        listing = symbol.listing
        book = self._market.book(listing.instrument)

        def depth(time: Callable[[int], int]) -> str:
            return (
                f'{{"e":"depthUpdate","E":{time(now)},"s":"{listing.symbol}","U":{diff.sent + 1},"u":{symbol.update_id},'
                f'"b":[{levels_text(listing, book.bids, diff.bids)}],"a":[{levels_text(listing, book.asks, diff.asks)}]}}'
            )

        self._emit(stream, depth)

    def _partial(self, symbol: _Symbol, levels: int, _: Callable[[int], int]) -> str:
        """Neither symbol nor time: on a raw connection of several streams nobody can tell whose it is."""
        return book_text(symbol.listing, self._market, symbol.update_id, levels)

    def _emit(self, stream: str, write: Callable[[Callable[[int], int]], str]) -> None:
        """Write the frame once for each form in which somebody wants it."""
        subscribers = self._subscribers.get(stream)
        if not subscribers:
            return
        frames: dict[tuple[bool, bool], bytes] = {}
        for connection in subscribers:
            session = self._sessions[connection]
            form = (session.combined, session.micros)
            frame = frames.get(form)
            if frame is None:
                text = write(_micros if session.micros else _millis)
                if session.combined:
                    text = f'{{"stream":"{stream}","data":{text}}}'
                frame = frames[form] = text.encode()
            connection.send(frame)

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        return self._rest.get(path, query, now)


def _trade(listing: Listing, fill: Fill, time: Callable[[int], int]) -> str:
    at, price, size = time(fill.at), *_priced(listing, fill.price, fill.size)
    return (
        f'{{"e":"trade","E":{at},"s":"{listing.symbol}","t":{fill.trade_id},"p":"{price}","q":"{size}",'
        f'"T":{at},"m":{_buyer_is_maker(fill)},"M":true}}'
    )


def _aggregate(listing: Listing, aggregate_id: int, merged: list[Fill], time: Callable[[int], int]) -> str:
    """What one taker took at one price."""
    first, last = merged[0], merged[-1]
    at, price, size = time(first.at), *_priced(listing, first.price, sum(fill.size for fill in merged))
    return (
        f'{{"e":"aggTrade","E":{at},"s":"{listing.symbol}","a":{aggregate_id},"p":"{price}","q":"{size}",'
        f'"f":{first.trade_id},"l":{last.trade_id},"T":{at},"m":{_buyer_is_maker(first)},"M":true}}'
    )


def _priced(listing: Listing, price: int, size: int) -> tuple[str, str]:
    return eight(price, listing.price_decimals), eight(size, listing.size_decimals)


def _buyer_is_maker(fill: Fill) -> str:
    return "false" if fill.taker_buys else "true"


def _millis(micros: int) -> int:
    return micros // 1000


def _micros(micros: int) -> int:
    return micros
