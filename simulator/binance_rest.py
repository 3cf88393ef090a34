"""Binance's public REST: what is listed, the snapshots that streams are bridged to, and the weight that they cost."""

from collections.abc import Callable, Iterable, Mapping

from simulator.book import Side
from simulator.listings import Listing, of_venue
from simulator.market import Fill, Market
from simulator.text import eight
from simulator.wire import Answer, answer

_BAN_AFTER_REFUSALS = 20


class BinanceRest:
    def __init__(self, market: Market, update_id: Callable[[str], int], weight_per_minute: int) -> None:
        self._market = market
        self._update_id = update_id
        self._listings = {listing.symbol: listing for listing in of_venue("binance")}
        self._weight_per_minute = weight_per_minute
        self._minute, self._used, self._refusals = 0, 0, 0

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
        listing = self._listings.get(query.get("symbol", ""))
        limit = _limit(query, 100, 5_000)
        if listing is None:
            return _INVALID_SYMBOL
        if limit is None:
            return _INVALID_LIMIT
        return Answer(200, book_text(listing, self._market, self._update_id(listing.symbol), limit).encode())

    def _trades(self, query: Mapping[str, str]) -> Answer:
        listing = self._listings.get(query.get("symbol", ""))
        limit = _limit(query, 500, 1_000)
        if listing is None:
            return _INVALID_SYMBOL
        if limit is None:
            return _INVALID_LIMIT
        fills = list(self._market.quoting[listing.instrument].recent)
        if query.get("fromId", "").isdigit():
            fills = [fill for fill in fills if fill.trade_id >= int(query["fromId"])][:limit]
        return answer([_trade_row(listing, fill) for fill in fills[-limit:]])

    def _book_ticker(self, query: Mapping[str, str]) -> Answer:
        listing = self._listings.get(query.get("symbol", ""))
        if listing is None:
            return _INVALID_SYMBOL
        bid, bid_size, ask, ask_size = self._market.book(listing.instrument).touch()
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
        if wanted is not None and not wanted <= set(self._listings):
            return _INVALID_SYMBOL
        symbols = [
            _symbol_row(listing)
            for listing in self._listings.values()
            if wanted is None or listing.symbol in wanted
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


def book_text(listing: Listing, market: Market, update_id: int, limit: int) -> str:
    book = market.book(listing.instrument)
    bids = levels_text(listing, book.bids, book.bids.top(limit))
    asks = levels_text(listing, book.asks, book.asks.top(limit))
    return f'{{"lastUpdateId":{update_id},"bids":[{bids}],"asks":[{asks}]}}'


def levels_text(listing: Listing, side: Side, prices: Iterable[int]) -> str:
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
