"""The rates for everybody: published by the owner of partition 0 from `reference_quotes` alone (DATA §4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

from cexdex.config import Config, assets
from cexdex.domain.rates import Rates, Source, Worth
from cexdex.records.rates import Rate
from cexdex.records.record import Record
from cexdex.records.reference_quotes import ReferenceQuote

EFFECT_US = 500_000
SECOND_US = 1_000_000
JUMP_US = 10_000_000
LOOKBACK_US = 120_000_000


def source_of(quote: ReferenceQuote, offset: int) -> Source:
    """A reference quote as the arithmetic of rates takes it."""
    return Source(
        instrument=quote.instrument,
        base=quote.base_asset,
        quote=quote.quote_asset,
        bid=quote.bid,
        ask=quote.ask,
        taker_fee_bps=quote.taker_fee_bps,
        session=quote.session,
        live=quote.state == "live",
        verified_at=quote.verified_at,
        received_at=quote.received_at,
        offset=offset,
    )


def rate_of(worth: Worth, now: int) -> Rate:
    """A rate as it is published at stream time `now`."""
    return Rate(
        received_at=now,
        asset=worth.asset,
        rate=worth.rate,
        bid=worth.bid,
        ask=worth.ask,
        conversion_bps=worth.conversion_bps,
        path=list(worth.path),
        sources=list(worth.sources),
        age_us=None if worth.verified_at is None else now - worth.verified_at,
        state=worth.state,
        source_offset=worth.offset,
    )


class RatesStream:
    """`reference_quotes` in its own stream time: the same rates that every worker computes for itself."""

    def __init__(
        self, config: Config, *, aloud_from: int = 0, fixed_rates: Mapping[str, float] | None = None
    ) -> None:
        self.now: int | None = None
        self._rates = Rates(assets().kind, depegged_bps=config.depegged_bps, fixed=fixed_rates)
        self._aloud_from = aloud_from
        self._effects: list[tuple[int, int, ReferenceQuote]] = []

    def on(self, record: ReferenceQuote, offset: int) -> Iterator[Record]:
        at = record.received_at + EFFECT_US
        outputs = [] if self.now is None else list(self._until(max(self.now, record.received_at)))
        if self.now is None:
            self.now = record.received_at
        if at <= self.now:
            outputs += self._rated(self._rates.heard(source_of(record, offset), self.now))
        else:
            heappush(self._effects, (at, offset, record))
        if offset >= self._aloud_from:
            yield from outputs

    def advance(self, now: int) -> Iterator[Record]:
        """At the topic's end the wall clock goes on, once there is a stream time."""
        if self.now is not None and now > self.now:
            yield from self._until(now)

    def _until(self, now: int) -> Iterator[Record]:
        assert self.now is not None
        second = (self.now // SECOND_US + 1) * SECOND_US
        if now - self.now > JUMP_US:
            second = ((now - JUMP_US) // SECOND_US + 1) * SECOND_US
        while True:
            if self._effects and self._effects[0][0] <= min(second, now):
                at, offset, record = heappop(self._effects)
                self.now = max(self.now, at)
                yield from self._rated(self._rates.heard(source_of(record, offset), self.now))
            elif second <= now:
                self.now = second
                yield from self._rated(self._rates.second(second))
                second += SECOND_US
            else:
                break
        self.now = now

    def _rated(self, changed: list[Worth]) -> list[Rate]:
        assert self.now is not None
        return [rate_of(worth, self.now) for worth in changed]
