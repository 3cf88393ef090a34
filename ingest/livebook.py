"""One instrument's book: what of it is known, whether it may be believed, and what was published when (DATA §3).

Every venue uses this and none repeats it. The venue's file says when a snapshot, an update, a proof or a loss has come;
what follows from that for quotes, ladders and states is decided here, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf
from typing import Literal

from cexdex.domain.assets import Assets
from cexdex.domain.book import Level, OrderBook
from cexdex.domain.ladder import LADDER_REACH_BPS
from cexdex.domain.murmur2 import phase_at, phase_of
from cexdex.records.book import Book
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.record import Micros, Reason, Record, State
from cexdex.records.reference_quotes import ReferenceQuote
from ingest.inverted import NO_TOUCH, Touch, inverted_touch
from ingest.said import reference_quote, status

SECOND_US = 1_000_000
EDGE_SHARE = 0.25
"""A new snapshot is asked for when so little of the first distance to the edge of the known range is left."""
CROSSED_FRAMES = 1
"""A book may be crossed with itself for so many complete frames."""


class LiveBook:
    """The book of one instrument on one connection.

    It is live when its snapshot is whole, its touch is uncrossed and inside the known range, and something proved it
    current within the venue's limit. Its quotes come from the venue's top-of-book stream where the feed has one, else
    from the book; they go out at every change and each second, and empty, with the reason, the moment it is not live.
    """

    def __init__(
        self,
        instrument: Instrument,
        assets: Assets,
        counts: Counter[str],
        *,
        verified_within_us: int,
        top_of_book: bool,
    ) -> None:
        self.instrument = instrument
        self.book = OrderBook()
        self.counts = counts
        self._book_sequence: int | None = None
        self._touch_sequence: int | None = None
        self._top_sequence: int | None = None
        self._book_verified_at = 0
        self._top_verified_at = 0
        self._limit_us = verified_within_us
        self._source: Literal["top", "book"] = "top" if top_of_book else "book"
        self._rate_source = assets.is_rate_source(instrument.base_asset, instrument.quote_asset)
        self._phase = phase_of(instrument.instrument)
        self._session = 0
        self._known = (0.0, inf)
        self._first_reach = (inf, inf)
        self._whole = False
        self._state: State = "syncing"
        self._reason: Reason | None = "syncing"
        self._published: State | None = None
        self._touch: Touch = NO_TOUCH
        self._top: Touch | None = None
        self._tops: dict[int, Touch] = {}
        self._crossed_for = 0
        self._event_time: Micros | None = None
        self._changed_at = 0
        self._quoted_at = 0
        self._quotes = 0
        self._books = 0
        self._ladder_due = False
        self._referenced_at = 0

    @property
    def is_live(self) -> bool:
        return self._state == "live"

    @property
    def whole(self) -> bool:
        """Whether there is a book at all, live or not."""
        return self._whole

    @property
    def verified_at(self) -> Micros:
        """When the least recently proved of what makes the quote and its ladder was proved current."""
        if self._source == "top" and self._top is not None:
            return min(self._book_verified_at, self._top_verified_at)
        return self._book_verified_at

    @property
    def crossed_too_long(self) -> bool:
        """Whether the book has to be replaced because it stays crossed with itself."""
        return self._crossed_for > CROSSED_FRAMES

    def start(self, now: Micros) -> None:
        """A connection was made: its session begins."""
        self._session = now
        self.verified(now)

    # What the venue said

    def snapshot(
        self,
        book: OrderBook,
        known: tuple[float, float],
        now: Micros,
        *,
        sequence: int | None = None,
        event_time: Micros | None = None,
    ) -> Iterator[Record]:
        """A whole new book takes the place of the running one. known: the lowest and the highest price it reaches to,
        0 and inf where the venue gave everything."""
        self.book = book
        self._known = known
        bid, ask = book.bids.best, book.asks.best
        self._first_reach = (bid or 0.0) - known[0], known[1] - (ask or inf)
        self._whole = True
        self._crossed_for = 0
        yield from self.updated(now, sequence=sequence, event_time=event_time)

    def known(self, low: float, high: float) -> None:
        """The venue's window moved: prices from low to high are known now."""
        self._known = (low, high)

    def updated(
        self, now: Micros, *, sequence: int | None = None, event_time: Micros | None = None
    ) -> Iterable[Record]:
        """A complete frame was applied to `book`."""
        book = self.book
        self._book_sequence = sequence
        self._event_time = event_time
        self._book_verified_at = now
        self._ladder_due = True
        touch = book.touch()
        bid, _, ask, _ = touch
        if bid is not None and ask is not None and bid >= ask:
            self._crossed_for += 1
            self.counts["crossed_frames"] += 1
        else:
            self._crossed_for = 0
        if self._source == "top" and self._top is not None:
            if self._tops and sequence is not None:
                self._compare(sequence, touch)
            if touch == self._top:
                self._top_verified_at = now
            elif (
                sequence is not None
                and self._top_sequence is not None
                and self._top_sequence <= sequence
                and self._fault(touch) is None
            ):
                # the stream leads the book: a good book that has passed it and differs says that it has gone silent
                self.counts["top_left_behind"] += 1
                self._top = None
            touch = self._top or touch
        if self._top is None:
            self._touch_sequence = sequence
        return self._seen(touch, now)

    def top(
        self, touch: Touch, now: Micros, *, sequence: int | None = None, event_time: Micros | None = None
    ) -> Iterable[Record]:
        """The venue's own best bid and offer."""
        if self.instrument.inverted:
            touch = inverted_touch(touch)
        self._top = touch
        self._top_verified_at = now
        if sequence is not None:
            self._top_sequence = self._touch_sequence = sequence
            self._tops[sequence] = touch
            if len(self._tops) > 10_000:
                self._tops.clear()
        if not self._whole:
            return ()
        self._event_time = event_time
        return self._seen(touch, now)

    def verified(self, now: Micros) -> None:
        """Something proved that everything is current though nothing changed."""
        self._book_verified_at = self._top_verified_at = now

    def fail(self, reason: Reason, now: Micros, state: State = "syncing") -> Iterator[Record]:
        """The book cannot be believed any more: it is forgotten, and nobody may go on using its last quote."""
        self.book = OrderBook()
        self._whole = False
        self._crossed_for = 0
        self._top = None
        self._tops.clear()
        self._event_time = None
        yield from self._turn(state, reason, NO_TOUCH, now)

    def spoilt(
        self,
        kind: Literal["gap", "checksum_failed"],
        reason: Reason,
        now: Micros,
        why: str,
        lost: int | None = None,
    ) -> Iterator[Record]:
        """`fail`, and the event in the venue's life that caused it."""
        yield from self.fail(reason, now)
        yield status(self.instrument, kind, now, why, lost)

    # What time says

    def on_time(self, now: Micros) -> Iterator[Record]:
        """Each 100 ms: quotes unchanged for a second, ladders, the 10 s point, and whether silence has lasted."""
        if self._whole:
            quiet = now - self.verified_at > self._limit_us
            if quiet and self._state == "live":
                yield from self._turn("stale", "stale_leg", NO_TOUCH, now)
                yield status(
                    self.instrument,
                    "stale",
                    now,
                    f"nothing proved the quote current for {self._limit_us / 1e6:g} s",
                )
            elif self._state == "stale" and not quiet:
                yield from self._settle(self._current(), now)
        at_point = phase_at(now) == self._phase
        if self._state == "live":
            if now - self._quoted_at >= SECOND_US:
                yield self._quote(now)
            if self._ladder_due or at_point:
                yield self._ladder(now)
        elif at_point and self._published is not None:
            yield self._quote(now)
            yield self._ladder(now)
        if self._rate_source and now % SECOND_US == 0 and self._published is not None:
            yield from self._reference(now)

    def needs_snapshot(self) -> bool:
        """Whether the touch has come so near to the edge of what is known that a new snapshot is due."""
        bid, ask = self.book.bids.best, self.book.asks.best
        low, high = self._known
        return self._whole and (
            (low > 0 and (bid is None or bid - low <= EDGE_SHARE * self._first_reach[0]))
            or (high < inf and (ask is None or high - ask <= EDGE_SHARE * self._first_reach[1]))
        )

    def needs_proof(self, now: Micros) -> bool:
        """Whether half the limit has gone by without a frame of its own."""
        return self._whole and (now - self.verified_at) * 2 >= self._limit_us

    # What follows

    def _current(self) -> Touch:
        if self._source == "top" and self._top is not None:
            return self._top
        return self.book.touch()

    def _seen(self, touch: Touch, now: Micros) -> Iterable[Record]:
        """What is said of a touch; most are as the last one, or as good."""
        if self._state != "live" or self._crossed_for:
            return self._settle(touch, now)
        if touch == self._touch:
            return ()
        if self._fault(touch) is not None:
            return self._settle(touch, now)
        self._touch = touch
        self._changed_at = now
        return (self._quote(now),)

    def _settle(self, touch: Touch, now: Micros) -> Iterator[Record]:
        reason = self._fault(touch)
        if reason is None:
            yield from self._turn("live", None, touch, now)
        else:
            yield from self._turn("syncing", reason, NO_TOUCH, now)

    def _fault(self, touch: Touch) -> Reason | None:
        bid, _, ask, _ = touch
        if self._crossed_for or (bid is not None and ask is not None and bid >= ask):
            return "crossed"
        low, high = self._known
        if (bid is not None and bid < low) or (ask is not None and ask > high):
            return "beyond_known_range"
        if (bid is None and low > 0) or (ask is None and high < inf):
            return "beyond_known_range"  # everything that was known is gone: what is left is not
        return None

    def _turn(self, state: State, reason: Reason | None, touch: Touch, now: Micros) -> Iterator[Record]:
        turned = state != self._state or reason != self._reason
        if touch != self._touch:
            self._touch = touch
            self._changed_at = now
        self._state, self._reason = state, reason
        if state != "live" and not turned and self._published is not None:
            return
        yield self._quote(now)
        if turned:
            if state != "live":
                yield self._ladder(now)
            if self._rate_source:
                yield from self._reference(now)

    def _compare(self, sequence: int, touch: Touch) -> None:
        """A touch that the top-of-book stream gave for this very id must be the book's."""
        top = self._tops.get(sequence)
        if top is not None:
            if top == touch:
                self.counts["touch_agreed"] += 1
            elif self._fault(top) is None:
                self.counts["touch_differed"] += 1
        if len(self._tops) > 64:
            self._tops = {at: touch for at, touch in self._tops.items() if at > sequence}
        else:
            for at in [at for at in self._tops if at <= sequence]:
                del self._tops[at]

    def _quote(self, now: Micros) -> Quote:
        bid, bid_size, ask, ask_size = self._touch
        instrument = self.instrument
        live = self._state == "live"
        quote = Quote(
            market=instrument.market,
            venue=instrument.venue,
            instrument=instrument.instrument,
            base_asset=instrument.base_asset,
            quote_asset=instrument.quote_asset,
            event_time=self._event_time,
            received_at=now,
            bid=bid,
            bid_size=bid_size if live else None,
            ask=ask,
            ask_size=ask_size if live else None,
            session=self._session,
            ordinal=self._quotes,
            sequence=self._touch_sequence,
            source="book" if self._top is None else "top",
            changed_at=self._changed_at,
            verified_at=self._book_verified_at if self._top is None else self._top_verified_at,
            state=self._state,
            reason=self._reason,
        )
        self._quotes += 1
        self._quoted_at = now
        self._published = self._state
        return quote

    def _ladder(self, now: Micros) -> Book:
        instrument = self.instrument
        bids: list[Level] = []
        asks: list[Level] = []
        exact = (0, 0)
        reference = bids_to = asks_to = None
        if self._state == "live":
            reference = self.book.mid
            if reference is not None:
                low, high = self._known
                bids, exact_bids = self.book.bids.ladder(reference, low)
                asks, exact_asks = self.book.asks.ladder(reference, high)
                exact = (exact_bids, exact_asks)
                bids_to = min(LADDER_REACH_BPS, 1e4 * (1 - low / reference))
                asks_to = min(LADDER_REACH_BPS, 1e4 * (high / reference - 1))
        book = Book(
            market=instrument.market,
            instrument=instrument.instrument,
            event_time=self._event_time,
            received_at=now,
            bids=bids,
            asks=asks,
            exact_levels=exact,
            reference_price=reference,
            bids_complete_to_bps=bids_to,
            asks_complete_to_bps=asks_to,
            session=self._session,
            ordinal=self._books,
            sequence=self._book_sequence,
            state=self._state,
            reason=self._reason,
        )
        self._books += 1
        self._ladder_due = False
        return book

    def _reference(self, now: Micros) -> Iterator[ReferenceQuote]:
        if now == self._referenced_at:
            return
        self._referenced_at = now
        yield reference_quote(
            self.instrument,
            self._touch,
            now,
            event_time=self._event_time,
            session=self._session,
            changed_at=self._changed_at,
            verified_at=self.verified_at,
            state=self._state,
            reason=self._reason,
        )
