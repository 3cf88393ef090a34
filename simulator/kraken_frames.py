"""Kraken's frames as text: JSON numbers with every zero kept, and the checksum over them."""

import zlib

from simulator.book import Book, Side
from simulator.kraken_rest import MINIMUMS
from simulator.listings import Listing
from simulator.market import Fill
from simulator.text import fixed, rfc3339

CHECKED = 10
"""Levels of each side in the checksum, whatever the subscribed depth."""


def checksum(book: Book) -> int:
    """CRC-32 over the best ten asks, then bids: price and size without dot and leading zeros, which are our whole numbers."""
    asks, bids = book.asks, book.bids
    text = "".join(f"{price}{asks.sizes[price]}" for price in asks.top(CHECKED))
    text += "".join(f"{price}{bids.sizes[price]}" for price in bids.top(CHECKED))
    return zlib.crc32(text.encode())


def book_frame(
    kind: str, listing: Listing, book: Book, bids: list[int], asks: list[int], crc: int, at: int
) -> bytes:
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{listing.symbol}","bids":[{_levels(listing, book.bids, bids)}],'
        f'"asks":[{_levels(listing, book.asks, asks)}],"checksum":{crc},"timestamp":"{rfc3339(at)}"}}]}}'
    ).encode()


def _levels(listing: Listing, side: Side, prices: list[int]) -> str:
    """JSON numbers with every zero kept, as a json library would not write them."""
    price_decimals, size_decimals, sizes = listing.price_decimals, listing.size_decimals, side.sizes
    return ",".join(
        f'{{"price":{fixed(price, price_decimals)},"qty":{fixed(sizes.get(price, 0), size_decimals)}}}'
        for price in prices
    )


def trade_frame(kind: str, listing: Listing, fills: list[Fill]) -> bytes:
    rows = ",".join(
        f'{{"symbol":"{listing.symbol}","side":"{"buy" if fill.taker_buys else "sell"}",'
        f'"price":{fixed(fill.price, listing.price_decimals)},"qty":{fixed(fill.size, listing.size_decimals)},'
        f'"ord_type":"market","trade_id":{fill.trade_id},"timestamp":"{rfc3339(fill.at)}"}}'
        for fill in fills
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'.encode()


def instrument_row(listing: Listing) -> str:
    tick = fixed(1, listing.price_decimals)
    return (
        f'{{"symbol":"{listing.symbol}","base":"{listing.base}","quote":"{listing.quote}","status":"online",'
        f'"qty_precision":{listing.size_decimals},"qty_increment":1e-{listing.size_decimals:02d},'
        f'"price_precision":{listing.price_decimals},"price_increment":{tick},"cost_precision":5,"cost_min":0.5,'
        f'"qty_min":{MINIMUMS[listing.base]},"marginable":true,"has_index":true,"tick_size":{tick}}}'
    )
