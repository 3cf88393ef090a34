"""When a quote is live, what goes out when it is not, and what proves it."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any

from cexdex.config import assets, load
from cexdex.domain.book import OrderBook
from cexdex.domain.murmur2 import phase_of
from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.venue_status import VenueStatus
from ingest.listing import listed_instrument
from ingest.livebook import LiveBook

T0 = 1_700_000_000_000_000
SECOND = 1_000_000


def live_book(base: str = "BTC", quote: str = "USDT", *, top: bool = False, **known: Any) -> LiveBook:
    entry = listed_instrument(
        "binance", base + quote, base, quote, load().venues["binance"], assets(), T0, status="trading"
    )
    assert entry is not None
    book = LiveBook(entry.instrument, assets(), Counter(), verified_within_us=3 * SECOND, top_of_book=top)
    book.start(T0)
    return book


def whole(book: LiveBook, now: int = T0, known: tuple[float, float] = (0.0, inf)) -> list[Any]:
    return list(
        book.snapshot(OrderBook([(99.0, 1.0), (98.0, 2.0)], [(101.0, 3.0), (102.0, 4.0)]), known, now)
    )


def touch(quote: Quote) -> tuple[Any, ...]:
    return quote.bid, quote.bid_size, quote.ask, quote.ask_size


def test_a_snapshot_makes_it_live_and_says_the_touch() -> None:
    [quote] = whole(live_book())
    assert touch(quote) == (99.0, 1.0, 101.0, 3.0)
    assert (quote.state, quote.reason, quote.session, quote.ordinal) == ("live", None, T0, 0)


def test_a_quote_goes_out_at_each_change_and_each_second() -> None:
    book = live_book()
    whole(book)
    book.book.bids.apply([(98.0, 5.0)])
    assert list(book.updated(T0 + 10)) == [], "below the touch nothing changed"
    book.book.bids.apply([(99.0, 1.5)])
    [changed] = book.updated(T0 + 20)
    assert (changed.bid_size, changed.changed_at, changed.ordinal) == (1.5, T0 + 20, 1)
    quotes = [r for r in book.on_time(T0 + 900_000) if isinstance(r, Quote)]
    assert quotes == []
    [again] = [r for r in book.on_time(T0 + 1_100_000) if isinstance(r, Quote)]
    assert touch(again) == touch(changed)
    assert (again.changed_at, again.verified_at, again.ordinal) == (T0 + 20, T0 + 20, 2)


def test_the_ladder_goes_out_at_the_next_point_when_changed() -> None:
    book = live_book()
    whole(book)
    [ladder] = [r for r in book.on_time(T0 + 100_000) if isinstance(r, Book)]
    assert (ladder.bids, ladder.asks) == ([(99.0, 1.0), (98.0, 2.0)], [(101.0, 3.0), (102.0, 4.0)])
    assert (ladder.reference_price, ladder.exact_levels) == (100.0, (2, 2))
    assert (ladder.bids_complete_to_bps, ladder.asks_complete_to_bps) == (200.0, 200.0)
    assert [r for r in book.on_time(T0 + 200_000) if isinstance(r, Book)] == []


def test_silence_makes_it_stale_and_proof_makes_it_live_again() -> None:
    book = live_book()
    whole(book)
    records = [r for at in range(1, 31) for r in book.on_time(T0 + at * 100_000)]
    assert all(r.state == "live" for r in records)
    assert book.needs_proof(T0 + 1_500_000)
    quote, ladder, status = book.on_time(T0 + 3_100_000)
    assert isinstance(quote, Quote)
    assert isinstance(ladder, Book)
    assert isinstance(status, VenueStatus)
    assert (quote.state, quote.reason, *touch(quote)) == ("stale", "stale_leg", None, None, None, None)
    assert (ladder.state, ladder.bids, ladder.asks, status.kind) == ("stale", [], [], "stale")
    book.verified(T0 + 3_150_000)
    back = next(r for r in book.on_time(T0 + 3_200_000) if isinstance(r, Quote))
    assert (back.state, *touch(back)) == ("live", 99.0, 1.0, 101.0, 3.0)


def test_a_loss_is_said_at_once_and_again_at_each_ten_second_point() -> None:
    book = live_book()
    whole(book)
    quote, ladder = book.fail("gap", T0 + 5)
    assert (quote.state, quote.reason, quote.bid) == ("syncing", "gap", None)
    assert (ladder.state, ladder.reason, ladder.bids, ladder.reference_price) == ("syncing", "gap", [], None)
    assert list(book.fail("gap", T0 + 6)) == [], "it was said"
    base = T0 - T0 % (10 * SECOND) + 10 * SECOND
    point = base + phase_of("binance:BTC-USDT") * 100_000
    said = {at: list(book.on_time(at)) for at in range(base, base + 20 * SECOND, 100_000)}
    assert [at for at, records in said.items() if records] == [point, point + 10 * SECOND]
    assert [(type(r), r.reason) for r in said[point]] == [(Quote, "gap"), (Book, "gap")]


def test_beyond_what_is_known_it_is_not_live() -> None:
    book = live_book()
    whole(book, known=(97.0, 103.0))
    assert not book.needs_snapshot()
    book.book.asks.apply([(101.0, 0.0), (102.0, 0.0), (102.5, 1.0)])
    [moved] = book.updated(T0 + 10)
    assert moved.state == "live"
    assert book.needs_snapshot(), "a quarter of the way to the edge is left"
    book.book.asks.apply([(102.5, 0.0), (104.0, 1.0)])
    quote, ladder = book.updated(T0 + 20)
    assert (quote.state, quote.reason, *touch(quote)) == (
        "syncing",
        "beyond_known_range",
        None,
        None,
        None,
        None,
    )
    assert ladder.asks == []
    book.book.asks.apply([(101.0, 1.0)])
    back = next(iter(book.updated(T0 + 30)))
    assert (back.state, back.ask) == ("live", 101.0)


def test_a_side_of_which_all_that_was_known_is_gone_is_not_an_empty_side() -> None:
    book = live_book()
    whole(book, known=(97.0, inf))
    book.book.bids.apply([(99.0, 0.0), (98.0, 0.0)])
    quote, *_ = book.updated(T0 + 10)
    assert quote.reason == "beyond_known_range"
    book = live_book()
    whole(book)
    book.book.bids.apply([(99.0, 0.0), (98.0, 0.0)])
    [quote] = book.updated(T0 + 10)
    assert (quote.state, *touch(quote)) == ("live", None, 0.0, 101.0, 3.0)


def test_a_crossed_book_is_never_quoted_and_lasts_one_frame() -> None:
    book = live_book()
    whole(book)
    book.book.bids.apply([(101.5, 1.0)])
    quote, *_ = book.updated(T0 + 10)
    assert (quote.state, quote.reason, quote.bid) == ("syncing", "crossed", None)
    assert not book.crossed_too_long
    list(book.updated(T0 + 20))
    assert book.crossed_too_long
    book.book.bids.apply([(101.5, 0.0)])
    back = next(iter(book.updated(T0 + 30)))
    assert (back.state, back.bid) == ("live", 99.0)


def test_with_a_top_of_book_stream_it_is_the_one_source() -> None:
    book = live_book(top=True)
    assert list(book.top((99.5, 1.0, 100.5, 1.0), T0 + 1, sequence=10)) == [], "no book yet"
    [quote] = whole(book, T0 + 2)
    assert touch(quote) == (99.5, 1.0, 100.5, 1.0)
    book.book.bids.apply([(99.4, 1.0)])
    assert list(book.updated(T0 + 3, sequence=9)) == [], "the book is behind: its touch is not quoted"
    [quote] = book.top((99.6, 1.0, 100.5, 1.0), T0 + 4, sequence=12)
    assert (quote.bid, quote.sequence, quote.source) == (99.6, 12, "top")
    crossed, *_ = book.top((100.6, 1.0, 100.5, 1.0), T0 + 5, sequence=13)
    assert (crossed.reason, crossed.bid) == ("crossed", None)


def test_each_of_two_streams_proves_itself_and_not_the_other() -> None:
    silent_top = live_book(top=True)
    list(silent_top.top((99.0, 1.0, 101.0, 3.0), T0, sequence=5))
    whole(silent_top, T0 + 1)
    silent_top.book.bids.apply([(99.0, 0.0)])
    [quote] = silent_top.updated(T0 + 100, sequence=8)
    assert (quote.bid, quote.source, quote.sequence) == (98.0, "book", 8), (
        "the book has passed the silent stream"
    )
    assert silent_top.counts["top_left_behind"] == 1
    silent_book = live_book(top=True)
    list(silent_book.top((99.0, 1.0, 101.0, 3.0), T0, sequence=5))
    whole(silent_book, T0 + 1)
    for at in range(1, 40):
        list(silent_book.top((99.0, 1.0 + at, 101.0, 3.0), T0 + at * 100_000, sequence=5 + at))
        list(silent_book.on_time(T0 + at * 100_000))
    assert not silent_book.is_live, "a ladder that nothing proves makes sizes that nobody may believe"
    assert silent_book.needs_proof(T0 + 4_000_000)


def test_a_quote_and_a_ladder_name_their_own_sequence() -> None:
    book = live_book(top=True)
    whole(book)
    [quote] = book.top((99.5, 1.0, 101.0, 3.0), T0 + 1, sequence=9)
    book.book.bids.apply([(97.0, 1.0)])
    assert list(book.updated(T0 + 2, sequence=5)) == []
    [ladder] = [r for r in book.on_time(T0 + 100_000) if isinstance(r, Book)]
    assert (quote.sequence, ladder.sequence) == (9, 5)
    again = next(r for r in book.on_time(T0 + 1_100_000) if isinstance(r, Quote))
    assert (again.sequence, again.bid) == (9, 99.5)


def test_a_touch_that_differs_at_one_id_is_counted() -> None:
    book = live_book(top=True)
    whole(book, T0)
    list(book.top((99.0, 1.0, 101.0, 3.0), T0 + 1, sequence=20))
    list(book.updated(T0 + 2, sequence=20))
    list(book.top((99.0, 7.0, 101.0, 3.0), T0 + 3, sequence=21))
    [quote] = book.updated(T0 + 4, sequence=21)
    assert (quote.bid_size, quote.source) == (1.0, "book"), "the stream is not believed any more"
    assert (book.counts["touch_agreed"], book.counts["touch_differed"]) == (1, 1)


def test_a_rate_source_is_quoted_once_more_each_full_second_and_at_a_change_of_state() -> None:
    book = live_book("USDC", "USDT")
    first = T0 - T0 % SECOND + SECOND
    _, reference = book.snapshot(OrderBook([(0.999, 1.0)], [(1.001, 1.0)]), (0.0, inf), first - 50_000)
    assert isinstance(reference, ReferenceQuote)
    at_second = [r for r in book.on_time(first) if isinstance(r, ReferenceQuote)]
    between = [r for r in book.on_time(first + 100_000) if isinstance(r, ReferenceQuote)]
    assert [(r.bid, r.ask, r.state) for r in (reference, *at_second)] == [(0.999, 1.001, "live")] * 2
    assert between == []
    lost = [r for r in book.fail("disconnected", first + 150_000, "stale") if isinstance(r, ReferenceQuote)]
    assert [(r.bid, r.state, r.reason) for r in lost] == [(None, "stale", "disconnected")]
    assert not [r for r in whole(live_book()) if isinstance(r, ReferenceQuote)], (
        "BTC-USDT says nothing of a rate"
    )


def test_an_instrument_listed_the_other_way_round_is_turned() -> None:
    book = live_book("USDT", "USDC", top=True)
    assert book.instrument.market == "USDC-USDT"
    assert book.instrument.inverted
    whole(book)
    [quote] = book.top((0.5, 10.0, 0.8, 20.0), T0 + 1)
    assert touch(quote) == (1.25, 16.0, 2.0, 5.0)
