"""Every published number follows from the quote, the ladder and the rates that its record names."""

from __future__ import annotations

from typing import Any

import pytest

from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import Record
from cexdex.records.spreads import Spread
from tests.processors.history import History, history, play


def walk(levels: list[tuple[float, float]], base: float) -> float | None:
    cost, rest = 0.0, base
    for price, size in levels:
        taken = min(size, rest)
        cost, rest = cost + taken * price, rest - taken
        if rest <= 0:
            return cost / base
    return None


def levels(quote: Quote, book: Book | None, side: str) -> list[tuple[float, float]] | None:
    """A ladder under a newer touch, straight from the words of the contract."""
    if book is None or book.state != "live" or book.session != quote.session:
        return None
    if side == "buy":
        assert quote.ask is not None
        return [(quote.ask, quote.ask_size or 0.0), *((p, s) for p, s in book.asks if p > quote.ask)]
    assert quote.bid is not None
    return [(quote.bid, quote.bid_size or 0.0), *((p, s) for p, s in book.bids if p < quote.bid)]


def checked(made: History, said: list[Record], spread: Spread) -> int:
    named: dict[Any, Any] = {
        (type(r), r.instrument, r.session, r.ordinal): r for r in made.market if isinstance(r, Quote | Book)
    }
    fees = {r.instrument: r for _, _, r in made.small if type(r).__name__ == "Instrument"}
    buy: Quote = named[Quote, spread.buy, spread.buy_quote_session, spread.buy_quote_ordinal]
    sell: Quote = named[Quote, spread.sell, spread.sell_quote_session, spread.sell_quote_ordinal]
    assert (spread.buy_price, spread.sell_price) == (buy.ask, sell.bid)
    assert spread.buy_age_us == spread.received_at - buy.verified_at
    assert buy.ask is not None
    assert buy.bid is not None
    assert sell.bid is not None
    assert spread.buy_rate is not None
    assert spread.sell_rate is not None
    fee = spread.buy_fee_bps * 1e-4
    paid = (1 + fee) if fees[spread.buy].fee_asset == "quote" else 1 / (1 - fee)
    got = 1 - spread.sell_fee_bps * 1e-4
    gross = 1e4 * (sell.bid * spread.sell_rate / (buy.ask * spread.buy_rate) - 1)
    net = 1e4 * (sell.bid * spread.sell_rate * got / (buy.ask * spread.buy_rate * paid) - 1)
    assert spread.gross_bps == pytest.approx(gross, abs=1e-9)
    assert spread.net_bps == pytest.approx(net, abs=1e-9)
    sizes = 0
    for size in spread.sizes:
        if size.net_bps is None:
            continue
        base = size.notional_usd / ((buy.bid + buy.ask) / 2 * spread.buy_rate)
        buy_book = named[Book, spread.buy, spread.buy_book_session, spread.buy_book_ordinal]
        sell_book = named[Book, spread.sell, spread.sell_book_session, spread.sell_book_ordinal]
        asks, bids = levels(buy, buy_book, "buy"), levels(sell, sell_book, "sell")
        assert asks is not None
        assert bids is not None
        buy_vwap, sell_vwap = walk(asks, base), walk(bids, base)
        assert buy_vwap is not None
        assert sell_vwap is not None
        assert size.buy_vwap == pytest.approx(buy_vwap, rel=1e-12)
        assert size.sell_vwap == pytest.approx(sell_vwap, rel=1e-12)
        each = sell_vwap * spread.sell_rate * got - buy_vwap * spread.buy_rate * paid
        assert size.profit_usd == pytest.approx(base * each, abs=1e-9)
        assert size.net_bps <= net + 1e-9
        sizes += 1
    return sizes


@pytest.mark.parametrize("seed", range(4))
def test_a_published_spread_can_be_computed_again(seed: int) -> None:
    made = history(seed, seconds=40)
    said = [record for outputs in play(made) for record in outputs]
    spreads = [r for r in said if isinstance(r, Spread) and r.net_bps is not None]
    sizes = sum(checked(made, said, spread) for spread in spreads[::3])
    assert sizes > 50


@pytest.mark.parametrize("seed", range(4))
def test_a_valid_spread_has_believable_legs(seed: int) -> None:
    limits = {"binance": 3_000_000, "coinbase": 3_000_000, "kraken": 10_000_000}
    for outputs in play(history(seed, seconds=40)):
        for spread in outputs:
            if isinstance(spread, Spread) and spread.valid:
                assert (spread.buy_age_us or 0) <= limits[spread.buy.split(":")[0]]
                assert (spread.sell_age_us or 0) <= limits[spread.sell.split(":")[0]]
                assert spread.rate_state == "live"
                assert spread.net_bps is not None
            elif isinstance(spread, Spread):
                assert spread.reason is not None
