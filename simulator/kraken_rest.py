"""Kraken's public REST: what is listed and at which fees, books and recent trades."""

from collections.abc import Mapping

from simulator.listings import Listing, of_venue
from simulator.market import Market
from simulator.text import fixed, rfc3339
from simulator.wire import Answer, answer

# The v1 and REST names: bitcoin is XBT there.
_PAIR_KEYS = {
    "BTC/USD": ("XXBTZUSD", "XBTUSD", "XBT/USD", "XXBT", "ZUSD"),
    "BTC/USDT": ("XBTUSDT", "XBTUSDT", "XBT/USDT", "XXBT", "USDT"),
    "ETH/USD": ("XETHZUSD", "ETHUSD", "ETH/USD", "XETH", "ZUSD"),
    "ETH/USDT": ("ETHUSDT", "ETHUSDT", "ETH/USDT", "XETH", "USDT"),
    "USDT/USD": ("USDTZUSD", "USDTUSD", "USDT/USD", "USDT", "ZUSD"),
    "USDC/USD": ("USDCUSD", "USDCUSD", "USDC/USD", "USDC", "ZUSD"),
}
_CRYPTO_FEES = ([[0, 0.4], [10_000, 0.35], [50_000, 0.24]], [[0, 0.25], [10_000, 0.2], [50_000, 0.14]])
_DOLLAR_FEES = ([[0, 0.2], [50_000, 0.16]], [[0, 0.2], [50_000, 0.16]])
MINIMUMS = {"BTC": "0.00005", "ETH": "0.001", "USDT": "4", "USDC": "4"}


class KrakenRest:
    def __init__(self, market: Market) -> None:
        self._market = market
        self._listings = of_venue("kraken")

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        match path:
            case "/0/public/Time":
                return _rest({"unixtime": now // 1_000_000, "rfc1123": rfc3339(now)})
            case "/0/public/SystemStatus":
                return _rest({"status": "online", "timestamp": rfc3339(now)[:19] + "Z"})
            case "/0/public/AssetPairs":
                names = query["pair"].split(",") if "pair" in query else list(_PAIR_KEYS)
                found = [listing for name in names if (listing := self._listing(name))]
                if len(found) < len(names):
                    return _UNKNOWN_PAIR
                return _rest({_PAIR_KEYS[listing.symbol][0]: _pair_row(listing) for listing in found})
            case "/0/public/Depth":
                listing = self._listing(query.get("pair", ""))
                return self._depth(listing, query, now) if listing else _UNKNOWN_PAIR
            case "/0/public/Trades":
                listing = self._listing(query.get("pair", ""))
                return self._trades(listing, query) if listing else _UNKNOWN_PAIR
            case _:
                return answer({"error": ["EGeneral:Unknown method"]}, 404)

    def _listing(self, name: str) -> Listing | None:
        for listing in self._listings:
            if name in (listing.symbol, *_PAIR_KEYS[listing.symbol][:3]):
                return listing
        return None

    def _depth(self, listing: Listing, query: Mapping[str, str], now: int) -> Answer:
        book = self._market.book(listing.instrument)
        count = min(int(query["count"]), 500) if query.get("count", "").isdigit() else 100
        sides = {
            name: [
                [
                    fixed(price, listing.price_decimals),
                    fixed(side.sizes[price], listing.size_decimals),
                    now // 1_000_000,
                ]
                for price in side.top(count)
            ]
            for name, side in (("asks", book.asks), ("bids", book.bids))
        }
        return _rest({_PAIR_KEYS[listing.symbol][0]: sides})

    def _trades(self, listing: Listing, query: Mapping[str, str]) -> Answer:
        since = int(query["since"]) if query.get("since", "").isdigit() else 0
        since_us = since // 1000 if since > 10**15 else since * 1_000_000
        count = min(int(query["count"]), 1_000) if query.get("count", "").isdigit() else 1_000
        fills = [fill for fill in self._market.quoting[listing.instrument].recent if fill.at > since_us]
        fills = fills[:count] if since else fills[-count:]
        rows = [
            [
                fixed(fill.price, listing.price_decimals),
                fixed(fill.size, listing.size_decimals),
                fill.at / 1e6,
                "b" if fill.taker_buys else "s",
                "m",
                "",
                fill.trade_id,
            ]
            for fill in fills
        ]
        last = fills[-1].at * 1000 if fills else since
        return _rest({_PAIR_KEYS[listing.symbol][0]: rows, "last": str(last)})


def _pair_row(listing: Listing) -> dict[str, object]:
    _, altname, wsname, base, quote = _PAIR_KEYS[listing.symbol]
    fees, maker_fees = _CRYPTO_FEES if listing.base in ("BTC", "ETH") else _DOLLAR_FEES
    return {
        "altname": altname,
        "wsname": wsname,
        "aclass_base": "currency",
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": listing.price_decimals,
        "lot_decimals": listing.size_decimals,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": fees,
        "fees_maker": maker_fees,
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": MINIMUMS[listing.base],
        "costmin": "0.5",
        "tick_size": fixed(1, listing.price_decimals),
        "status": "online",
    }


def _rest(result: object) -> Answer:
    return answer({"error": [], "result": result})


_UNKNOWN_PAIR = answer({"error": ["EQuery:Unknown asset pair"]})
