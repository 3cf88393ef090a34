"""The forms in which venues let a reader prove that its book is whole; a venue's file adds its own numbered steps."""

from __future__ import annotations

from cexdex.domain.book import Level, OrderBook

Diff = tuple[int, int, list[Level], list[Level]]
"""First and last update id of a message, its bids and its asks."""


KEPT_AT_MOST = 3_000


class SnapshotThenDiffs:
    """A snapshot by request, bridged into a stream of diffs with ranges of ids.

    It is built beside the running book: diffs are kept from `ask` on, and `offer` says whether a snapshot can be
    bridged with what was kept. A book is never mended; another one is built and takes over.
    """

    def __init__(self) -> None:
        self._kept: list[Diff] | None = None

    @property
    def asked(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._kept is not None

    def ask(self, first: Diff | None = None) -> None:
        """A snapshot was asked for: diffs are kept from now on."""
        self._kept = [] if first is None else [first]

    def keep(self, diff: Diff) -> None:
        """A diff arrived while a snapshot is on its way."""
        if self._kept is not None:
            self._kept.append(diff)
            if len(self._kept) > KEPT_AT_MOST:
                self._kept = None  # the snapshot does not come: another is to be asked for

    def forget(self) -> None:
        self._kept = None

    def offer(self, last_id: int, bids: list[Level], asks: list[Level]) -> tuple[OrderBook, int] | str:
        """The book as of the newest kept diff and its id, or why this snapshot cannot be bridged.

        A snapshot older than the first kept diff is `too_old`; one that a kept diff should follow and does not is `gap`.
        """
        assert self._kept is not None
        if self._kept and self._kept[0][0] > last_id + 1:
            return "too_old"
        book = OrderBook(bids, asks)
        for first, last, diff_bids, diff_asks in self._kept:
            if last <= last_id:
                continue
            if first > last_id + 1:
                return "gap"
            book.bids.apply(diff_bids)
            book.asks.apply(diff_asks)
            last_id = last
        self._kept = None
        return book, last_id


class Sequence:
    """A counter over every frame of a connection: one that is missing spoils everything on it."""

    def __init__(self) -> None:
        self._last: int | None = None

    def check(self, number: int) -> int:
        """How many frames are missing before this one; negative when this one is old and to be ignored."""
        missing = 0 if self._last is None else number - self._last - 1
        if missing >= 0:
            self._last = number
        return missing
