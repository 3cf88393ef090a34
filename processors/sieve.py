"""What came twice and what an older connection still says, kept from every processor (DATA §2, §3)."""

from __future__ import annotations

from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import Record
from cexdex.records.trade import Trade

STALE_US = 3_000_000


class Sieve:
    """Remembers what passed within the lookback, and nothing older: a restarted worker must remember the same."""

    def __init__(self, lookback_us: int) -> None:
        self._lookback_us = lookback_us
        self._ordinals: dict[tuple[type[Record], str, int], tuple[int, int]] = {}
        self._sessions: dict[str, tuple[int, int]] = {}
        """The session followed of an instrument, and when its last quote came."""
        self._trades: dict[tuple[str, str, str, int], int] = {}

    def refuses(self, record: Record, now: int) -> str | None:
        """Under what name a record that must not pass is counted; None for one that may."""
        if isinstance(record, Quote):
            return self._twice(record, now) or self._lower(record, now, is_quote=True)
        if isinstance(record, Book):
            return self._twice(record, now) or self._lower(record, now, is_quote=False)
        if isinstance(record, Trade):
            if record.origin == "backfill":
                return "backfill"
            return self._seen((record.instrument, record.trade_id, record.action, record.revision), now)
        return None

    def forget(self, now: int) -> None:
        """Lets go of what is older than the lookback; called now and then, for `refuses` judges by age itself."""
        since = now - self._lookback_us
        self._trades = {key: at for key, at in self._trades.items() if at >= since}
        self._ordinals = {key: last for key, last in self._ordinals.items() if last[1] >= since}
        self._sessions = {key: last for key, last in self._sessions.items() if last[1] >= since}

    def _twice(self, record: Quote | Book, now: int) -> str | None:
        key = (type(record), record.instrument, record.session)
        last = self._ordinals.get(key)
        if last is not None and record.ordinal <= last[0] and now - last[1] <= self._lookback_us:
            return "twice"
        self._ordinals[key] = (record.ordinal, now)
        return None

    def _lower(self, record: Quote | Book, now: int, *, is_quote: bool) -> str | None:
        followed = self._sessions.get(record.instrument)
        if followed is None or record.session > followed[0] or now - followed[1] > STALE_US:
            self._sessions[record.instrument] = (record.session, now)
        elif record.session < followed[0]:
            return "lower_session"
        elif is_quote:
            self._sessions[record.instrument] = (record.session, now)
        return None

    def _seen(self, key: tuple[str, str, str, int], now: int) -> str | None:
        at = self._trades.get(key)
        if at is not None and now - at <= self._lookback_us:
            return "twice"
        self._trades.pop(key, None)
        self._trades[key] = now
        return None
