"""An instrument's trades, each once, and the holes between them."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from typing import Literal

import msgspec

from cexdex.records.instruments import Instrument
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus

LARGEST_HOLE = 100_000
"""Of a larger hole the single ids are not kept: what arrives of it later is dropped as too old."""
HOLES = 16
"""So many holes are waited for; what arrives of an older one is dropped as too old."""
_HOLE = re.compile(r"trades (\d+) to (\d+) did not arrive")


class TradeLog:
    """Consecutive ids of one instrument: a hole is a gap with its count, and what comes twice is dropped.

    A snapshot of recent trades, which some venues send on connect, only fills the hole behind the last trade published.
    """

    def __init__(self, instrument: Instrument, counts: Counter[str]) -> None:
        self._instrument = instrument
        self._counts = counts
        self._last: int | None = None
        self._published = False
        self._holes: deque[_Hole] = deque(maxlen=HOLES)

    def recall(self, trade: Trade) -> None:
        """The last trade that another connection published: this one does not give it again, nor one before it."""
        last = int(trade.trade_id)
        self._last = max(self._last or 0, last)
        self._published = True
        for hole in self._holes:
            hole.missing = {number for number in hole.missing if number > last}

    def trade(
        self,
        trade_id: int,
        price: float,
        size: float,
        taker_side: Literal["buy", "sell"],
        event_time: Micros | None,
        now: Micros,
        *,
        snapshot: bool = False,
    ) -> Iterator[Record]:
        """One trade of the venue, in ascending order of ids within a message."""
        late = next((hole for hole in self._holes if trade_id in hole.missing), None)
        if snapshot and not self._published:  # nothing was published before: there is no hole to fill
            self._last = max(self._last or 0, trade_id)
            return
        if self._last is None:
            self._last = trade_id
        elif trade_id <= self._last and late is None:
            self._counts["trade_repeated"] += 1
            return
        elif late is None:
            if trade_id > self._last + 1:
                yield self._hole(self._last + 1, trade_id, now)
            self._last = trade_id
        self._published = True
        recovered = late is not None or snapshot
        instrument = self._instrument
        if instrument.inverted:
            price, size = 1 / price, price * size
            taker_side = "sell" if taker_side == "buy" else "buy"
        yield Trade(
            market=instrument.market,
            venue=instrument.venue,
            instrument=instrument.instrument,
            trade_id=str(trade_id),
            price=price,
            size=size,
            taker_side=taker_side,
            quote_size=price * size,
            event_time=now if event_time is None else event_time,
            received_at=now,
            origin="recovery" if recovered else "live",
        )
        if late is not None:
            late.missing.discard(trade_id)
            late.gap = msgspec.structs.replace(late.gap, lost=len(late.missing))
            yield late.gap

    def _hole(self, first: int, after: int, now: Micros) -> VenueStatus:
        lost = after - first
        self._counts["trades_missing"] += lost
        gap = VenueStatus(
            market=self._instrument.market,
            venue=self._instrument.venue,
            instrument=self._instrument.instrument,
            kind="gap",
            started_at=now,
            ended_at=now,
            received_at=now,
            reason=f"trades {first} to {after - 1} did not arrive",
            lost=lost,
        )
        if lost <= LARGEST_HOLE:
            self._holes.append(_Hole(gap, set(range(first, after))))
        return gap


class _Hole:
    """A gap as it was last published, and the ids that are still missing of it."""

    __slots__ = ("gap", "missing")

    def __init__(self, gap: VenueStatus, missing: set[int]) -> None:
        self.gap = gap
        self.missing = missing


def hole_behind(gap: VenueStatus, last: int) -> VenueStatus | None:
    """What of a hole comes after the trade `last`; None when nothing does, or when it is no hole in trades."""
    found = _HOLE.fullmatch(gap.reason)
    if found is None:
        return None
    first, end = int(found[1]), int(found[2])
    if first > last:
        return gap
    if end <= last:
        return None
    lost = end - last if gap.lost is None else min(gap.lost, end - last)
    return msgspec.structs.replace(gap, reason=f"trades {last + 1} to {end} did not arrive", lost=lost)
