"""Binance spot: streams with U..u update ids, and the REST snapshot that they are bridged to."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import orjson

from simulator.book import Side
from simulator.faults import Disturbance
from simulator.listings import Listing, of_venue
from simulator.market import Change, Fill, Market
from simulator.text import eight
from simulator.wire import Answer, Connection, answer

_INBOUND_PER_SECOND = 5  # pings, pongs and JSON each count
_STREAMS_PER_CONNECTION = 1024
_PING_US = 20_000_000
_PONG_WITHIN_US = 60_000_000
_FAST_US, _SLOW_US = 100_000, 1_000_000
_WEIGHT_PER_MINUTE = 6_000
_BAN_AFTER_REFUSALS = 20


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
        self._sessions: dict[Connection, _Session] = {}
        self._subscribers: dict[str, dict[Connection, None]] = {}
        self._symbols: dict[str, _Symbol] = {}
        for index, listing in enumerate(of_venue(self.name)):
            first = 50_000_000_000 + index * 1_000_000_000
            self._symbols[listing.symbol] = _Symbol(listing, first, _Diff(first), _Diff(first))
        self._window = market.now // _FAST_US
        self._shut_down_at: int | None = None
        self._weight_per_minute = weight_per_minute
        self._minute, self._used, self._refusals = 0, 0, 0

    def connections(self) -> list[Connection]:
        return list(self._sessions)

    # Sockets

    def opened(self, connection: Connection, path: str, query: Mapping[str, str], now: int) -> bool:
        raw = path == "/ws" or path.startswith("/ws/")
        if not raw and path != "/stream":
            return False
        micros = query.get("timeUnit", "").upper() == "MICROSECOND"
        session = _Session(combined=not raw, micros=micros, pinged_at=now, ponged_at=now)
        self._sessions[connection] = session
        named = path.removeprefix("/ws").strip("/") if raw else query.get("streams", "")
        self._subscribe(connection, [name for name in named.split("/") if name])
        return True

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
            self._subscribers[stream].pop(connection, None)

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
                    self._subscribers.get(name, {}).pop(connection, None)
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
            bid, bid_size, ask, ask_size = self._market.quoting[listing.instrument].book.touch()
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
        book = self._market.quoting[listing.instrument].book

        def depth(time: Callable[[int], int]) -> str:
            return (
                f'{{"e":"depthUpdate","E":{time(now)},"s":"{listing.symbol}","U":{diff.sent + 1},"u":{symbol.update_id},'
                f'"b":[{_levels(listing, book.bids, diff.bids)}],"a":[{_levels(listing, book.asks, diff.asks)}]}}'
            )

        self._emit(stream, depth)

    def _partial(self, symbol: _Symbol, levels: int, _: Callable[[int], int]) -> str:
        """Neither symbol nor time: on a raw connection of several streams nobody can tell whose it is."""
        listing = symbol.listing
        book = self._market.quoting[listing.instrument].book
        return (
            f'{{"lastUpdateId":{symbol.update_id},"bids":[{_levels(listing, book.bids, book.bids.top(levels))}],'
            f'"asks":[{_levels(listing, book.asks, book.asks.top(levels))}]}}'
        )

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

    # REST

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        refused = self._weigh(path, query, now)
        if refused:
            return refused
        match path:
            case "/api/v3/ping":
                reply = answer({})
            case "/api/v3/time":
                reply = answer({"serverTime": now // 1000})
            case "/api/v3/exchangeInfo":
                reply = self._exchange_info(query, now)
            case "/api/v3/depth":
                reply = self._depth(query)
            case "/api/v3/trades" | "/api/v3/historicalTrades":
                reply = self._trades(query)
            case "/api/v3/ticker/bookTicker":
                reply = self._book_ticker(query)
            case _:
                reply = answer({"code": -1100, "msg": "Not found"}, 404)
        return Answer(reply.status, reply.body, {"X-MBX-USED-WEIGHT-1M": str(self._used)})

    def _weigh(self, path: str, query: Mapping[str, str], now: int) -> Answer | None:
        minute, into = divmod(now, 60_000_000)
        if minute != self._minute:
            self._minute, self._used, self._refusals = minute, 0, 0
        self._used += _weight(path, query)
        if self._used <= self._weight_per_minute:
            return None
        self._refusals += 1
        banned = self._refusals > _BAN_AFTER_REFUSALS
        wait = 120 if banned else (60_000_000 - into) // 1_000_000 + 1
        headers = {"Retry-After": str(wait), "X-MBX-USED-WEIGHT-1M": str(self._used)}
        limit = f"Too much request weight used; current limit is {self._weight_per_minute} request weight per 1 MINUTE."
        return answer({"code": -1003, "msg": limit}, 418 if banned else 429, headers)

    def _depth(self, query: Mapping[str, str]) -> Answer:
        symbol = self._symbols.get(query.get("symbol", ""))
        limit = _limit(query, 100, 5_000)
        if symbol is None:
            return _INVALID_SYMBOL
        if limit is None:
            return _INVALID_LIMIT
        return Answer(200, self._partial(symbol, limit, _millis).encode())

    def _trades(self, query: Mapping[str, str]) -> Answer:
        symbol = self._symbols.get(query.get("symbol", ""))
        limit = _limit(query, 500, 1_000)
        if symbol is None:
            return _INVALID_SYMBOL
        if limit is None:
            return _INVALID_LIMIT
        fills = list(self._market.quoting[symbol.listing.instrument].recent)
        if query.get("fromId", "").isdigit():
            fills = [fill for fill in fills if fill.trade_id >= int(query["fromId"])][:limit]
        return answer([_trade_row(symbol.listing, fill) for fill in fills[-limit:]])

    def _book_ticker(self, query: Mapping[str, str]) -> Answer:
        symbol = self._symbols.get(query.get("symbol", ""))
        if symbol is None:
            return _INVALID_SYMBOL
        listing = symbol.listing
        bid, bid_size, ask, ask_size = self._market.quoting[listing.instrument].book.touch()
        return answer(
            {
                "symbol": listing.symbol,
                "bidPrice": eight(bid, listing.price_decimals),
                "bidQty": eight(bid_size, listing.size_decimals),
                "askPrice": eight(ask, listing.price_decimals),
                "askQty": eight(ask_size, listing.size_decimals),
            }
        )

    def _exchange_info(self, query: Mapping[str, str], now: int) -> Answer:
        wanted = set(query["symbols"].strip("[]").replace('"', "").split(",")) if "symbols" in query else None
        if "symbol" in query:
            wanted = {query["symbol"]}
        if wanted is not None and not wanted <= set(self._symbols):
            return _INVALID_SYMBOL
        symbols = [
            _symbol_row(s.listing)
            for s in self._symbols.values()
            if wanted is None or s.listing.symbol in wanted
        ]
        limit = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": self._weight_per_minute,
        }
        return answer(
            {
                "timezone": "UTC",
                "serverTime": now // 1000,
                "rateLimits": [limit],
                "exchangeFilters": [],
                "symbols": symbols,
            }
        )


_INVALID_SYMBOL = answer({"code": -1121, "msg": "Invalid symbol."}, 400)
_INVALID_LIMIT = answer({"code": -1100, "msg": "Illegal characters found in parameter 'limit'."}, 400)


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


def _levels(listing: Listing, side: Side, prices: Iterator[int] | Mapping[int, None] | list[int]) -> str:
    price_decimals, size_decimals, sizes = listing.price_decimals, listing.size_decimals, side.sizes
    return ",".join(
        f'["{eight(price, price_decimals)}","{eight(sizes.get(price, 0), size_decimals)}"]'
        for price in prices
    )


def _weight(path: str, query: Mapping[str, str]) -> int:
    match path:
        case "/api/v3/depth":
            limit = _limit(query, 100, 5_000) or 100
            return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1_000 else 250
        case "/api/v3/exchangeInfo":
            return 20
        case "/api/v3/trades" | "/api/v3/historicalTrades":
            return 25
        case "/api/v3/ticker/bookTicker":
            return 2
        case _:
            return 1


def _limit(query: Mapping[str, str], default: int, greatest: int) -> int | None:
    text = query.get("limit", str(default))
    return min(int(text), greatest) if text.isdigit() and int(text) else None


def _trade_row(listing: Listing, fill: Fill) -> dict[str, object]:
    quote = fill.price * fill.size * 10 ** (8 - listing.price_decimals - listing.size_decimals + 8) // 10**8
    return {
        "id": fill.trade_id,
        "price": eight(fill.price, listing.price_decimals),
        "qty": eight(fill.size, listing.size_decimals),
        "quoteQty": eight(quote, 8),
        "time": fill.at // 1000,
        "isBuyerMaker": not fill.taker_buys,
        "isBestMatch": True,
    }


def _symbol_row(listing: Listing) -> dict[str, object]:
    tick, step = eight(1, listing.price_decimals), eight(1, listing.size_decimals)
    return {
        "symbol": listing.symbol,
        "status": "TRADING",
        "baseAsset": listing.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
            {
                "filterType": "NOTIONAL",
                "minNotional": "5.00000000",
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN"]],
    }
