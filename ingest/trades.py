"""An instrument's trades, each once, and the holes between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from cexdex.records.instruments import Instrument
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus

LARGEST_HOLE = 100_000
"""Of a larger hole the single ids are not kept: what arrives of it later is dropped as too old."""


class TradeLog:
    """Consecutive ids of one instrument: a hole is a gap with its count, and what comes twice is dropped.

    A snapshot of recent trades, which some venues send on connect, only fills the hole behind the last trade published.
    """

    def __init__(self, instrument: Instrument, counts: Counter[str]) -> None:
        self._instrument = instrument
        self._counts = counts
        self._last: int | None = None
        self._published = False
        self._missing: set[int] = set()
        self._gap: VenueStatus | None = None

    def recall(self, trade: Trade) -> None:
        """The last trade that was published before this connection."""
        self._last = max(self._last or 0, int(trade.trade_id))
        self._published = True

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
        late = trade_id in self._missing
        if snapshot and not self._published:  # nothing was published before: there is no hole to fill
            self._last = max(self._last or 0, trade_id)
            return
        if self._last is None:
            self._last = trade_id
        elif trade_id <= self._last and not late:
            self._counts["trade_repeated"] += 1
            return
        elif not late:
            if trade_id > self._last + 1:
                yield self._hole(self._last + 1, trade_id, now)
            self._last = trade_id
        self._published = True
        recovered = late or snapshot
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
        if late:
            self._missing.discard(trade_id)
            yield self._shrunk()

    def _hole(self, first: int, after: int, now: Micros) -> VenueStatus:
        lost = after - first
        self._counts["trades_missing"] += lost
        if lost <= LARGEST_HOLE:
            self._missing = set(range(first, after))
        self._gap = VenueStatus(
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
        return self._gap

    def _shrunk(self) -> VenueStatus:
        """The gap again under its id, with what is still missing."""
        assert self._gap is not None
        self._gap = VenueStatus(
            market=self._gap.market,
            venue=self._gap.venue,
            instrument=self._gap.instrument,
            kind="gap",
            started_at=self._gap.started_at,
            ended_at=self._gap.ended_at,
            received_at=self._gap.received_at,
            reason=self._gap.reason,
            lost=len(self._missing),
        )
        return self._gap
