"""Coinbase Advanced Trade's public REST: products with their aliases, books and recent trades."""

from collections.abc import Mapping

from simulator.listings import Listing, of_venue
from simulator.market import Fill, Market
from simulator.text import rfc3339, rfc3339_trimmed, trimmed
from simulator.wire import Answer, answer

# A product that is another's book under a second name: subscribing to it gives the other's messages.
ALIASES = {"BTC-USDC": "BTC-USD", "ETH-USDC": "ETH-USD"}
_NAMES = {"BTC": "Bitcoin", "ETH": "Ethereum", "USDT": "Tether", "USD": "US Dollar", "USDC": "USDC"}


class CoinbaseRest:
    def __init__(self, market: Market) -> None:
        self._market = market
        self._products = {listing.symbol: listing for listing in of_venue("coinbase")}

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer:
        prefix = "/api/v3/brokerage"
        product = ALIASES.get(query.get("product_id", ""), query.get("product_id", ""))
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
                rows = [
                    *(self._product_row(listing) for listing in self._products.values()),
                    *self._alias_rows(),
                ]
                return answer({"products": rows, "num_products": len(rows), "pagination": None})
            case ["products", name, "ticker"] if ALIASES.get(name, name) in self._products:
                return self._recent(self._products[ALIASES.get(name, name)], query)
            case ["product_book"] if product in self._products:
                return self._product_book(self._products[product], query, now)
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
                "trades": [trade_row(listing, fill) for fill in fills],
                "best_bid": trimmed(bid, listing.price_decimals),
                "best_ask": trimmed(ask, listing.price_decimals),
            }
        )

    def _product_book(self, listing: Listing, query: Mapping[str, str], now: int) -> Answer:
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 10_000
        book = self._market.book(listing.instrument)
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
        bid = self._market.book(listing.instrument).bids.best
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
            "alias_to": [alias for alias, real in ALIASES.items() if real == listing.symbol],
            "base_display_symbol": listing.base,
            "quote_display_symbol": "USD",
            "view_only": False,
            "price_increment": tick,
            "display_name": listing.symbol,
            "product_venue": "CBE",
        }

    def _alias_rows(self) -> list[dict[str, object]]:
        rows = []
        for alias, real in ALIASES.items():
            row = self._product_row(self._products[real])
            quote = alias.split("-")[1]
            row |= {
                "product_id": alias,
                "display_name": alias,
                "quote_currency_id": quote,
                "quote_name": _NAMES[quote],
            }
            rows.append(row | {"alias": real, "alias_to": []})
        return rows


def trade_row(listing: Listing, fill: Fill) -> dict[str, str]:
    return {
        "product_id": listing.symbol,
        "trade_id": str(fill.trade_id),
        "price": trimmed(fill.price, listing.price_decimals),
        "size": trimmed(fill.size, listing.size_decimals),
        "time": rfc3339_trimmed(fill.at),
        # The maker's side: SELL stands above the mid, where the taker bought.
        "side": "SELL" if fill.taker_buys else "BUY",
    }
