"""One partition of `market`: its order, its time, its processors. Pure: told records and the time (DATA §2)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush

import msgspec

from cexdex.config import Config, assets
from cexdex.domain.murmur2 import POINT_US, partition_of
from cexdex.domain.rates import Rates, Worth
from cexdex.records.dead_letters import DeadLetter
from cexdex.records.instruments import Instrument
from cexdex.records.record import Record, decoder, topic_types
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.rules import Rule
from processors.processor import Make, Processor, discover
from processors.rates import rate_of, source_of
from processors.sieve import Sieve

EFFECT_US = 500_000
"""How long after its received_at a record of a small topic takes effect."""
JUMP_US = 10_000_000
"""After a longer jump of stream time only the points of its last ten seconds are called."""
SECOND_US = 1_000_000
AHEAD_US = 1_000_000
"""How far received_at may lie ahead of the broker's clock."""
LEAST_LOOKBACK_US = 120_000_000
PAYLOAD_BYTES = 64 * 1024
DEAD_LETTERS_A_SECOND = 10


def lookback_us(config: Config, makes: Mapping[str, Make] | None = None) -> int:
    """How far back input can still matter, over all processors and rules."""
    needs: list[int] = [make.lookback_us for make in (makes or discover()).values()]  # type: ignore[attr-defined]
    waits = [int(rule.for_s * 1_000_000) + 20_000_000 for rule in config.rules]
    return max([LEAST_LOOKBACK_US, *needs, *waits])


class Market:
    """The processors of one market, writers before readers, records passing straight between them."""

    def __init__(self, name: str, config: Config, makes: Mapping[str, Make], own: Iterable[Record]) -> None:
        self._processors: list[Processor] = [make(name, config) for make in makes.values()]
        self._readers: dict[type[Record], list[Processor]] = {}
        for processor in self._processors:
            for struct in processor.reads:
                self._readers.setdefault(struct, []).append(processor)
        for record in own:
            for processor in self._processors:
                if type(record) in processor.writes:
                    processor.recall(record)

    def deliver(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        for processor in self._readers.get(type(record), ()):
            for output in processor.on(record, offset, now):
                yield output
                if type(output) in self._readers:
                    yield from self.deliver(output, offset, now)

    def counts(self) -> Counter[str]:
        """What its processors counted, those that count."""
        counts: Counter[str] = Counter()
        for processor in self._processors:
            counts.update(getattr(processor, "counts", ()))
        return counts

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        for processor in self._processors:
            for output in processor.on_time(now, offset):
                yield output
                if type(output) in self._readers:
                    yield from self.deliver(output, offset, now)


class Partition:
    """One partition of `market`.

    number, partitions: which one of how many; aloud_from: the commit: what comes of records before it has been said
    already; own: what the processors said before the commit, in the order they said it; fixed_rates: USD per unit
    of assets whose sources are not asked (replay only).
    """

    def __init__(
        self,
        number: int,
        partitions: int,
        config: Config,
        *,
        aloud_from: int = 0,
        own: Iterable[Record] = (),
        fixed_rates: Mapping[str, float] | None = None,
    ) -> None:
        self.number = number
        self.now: int | None = None
        """Stream time; None before the first record."""
        self.offset = -1
        """Of the last record of `market` that was taken."""
        self.counts: Counter[str] = Counter()
        """What was dropped or came late, by why."""
        self._partitions = partitions
        self._config = config
        self._makes = discover()
        self.aloud_from = aloud_from
        self._own: dict[str, list[Record]] = {}
        for record in own:
            self._own.setdefault(getattr(record, "market", ""), []).append(record)
        self._effects: list[tuple[int, str, int, Record]] = []
        self._by_clock = 0
        """The stream time that only the wall clock had reached."""
        self._rates = Rates(assets().kind, depegged_bps=config.depegged_bps, fixed=fixed_rates)
        self._rules: dict[str, Rule] = {}
        self._market_of: dict[str, str] = {}
        self._markets: dict[str, Market] = {}
        self._sieve = Sieve(lookback_us(config, self._makes))
        self._decode = decoder(*topic_types("market")).decode
        self._dead: tuple[int, int] = (0, 0)

    def counted(self) -> Counter[str]:
        """What was dropped or came late here and in the processors, by why."""
        counts = Counter(self.counts)
        for market in self._markets.values():
            counts.update(market.counts())
        return counts

    def known(self, record: Record, topic: str, offset: int) -> Iterator[Record]:
        """A record of a small topic: takes effect in its time, or at once and counted when that is past."""
        at = record.effective_at if isinstance(record, Rule) else record.received_at + EFFECT_US
        if self.now is None or at > self.now:
            heappush(self._effects, (at, topic, offset, record))
            return
        self.counts["late"] += 1
        yield from self._take_effect(record, offset)

    def receive(self, value: bytes, offset: int, appended_at: int) -> Iterator[Record]:
        """A value of `market` and the microsecond at which the broker took it."""
        try:
            record: Record = self._decode(value)
        except (msgspec.MsgspecError, ValueError) as error:
            yield from self._refuse(value, offset, appended_at, str(error))
            return
        if record.received_at > appended_at + AHEAD_US:
            ahead = record.received_at - appended_at
            yield from self._refuse(value, offset, appended_at, f"received_at is {ahead} us ahead of Kafka")
            return
        yield from self.on(record, offset)

    def on(self, record: Record, offset: int) -> Iterator[Record]:
        """A record of `market`; what it causes is said only from the commit on."""
        outputs = self._on(record, offset)
        if offset >= self.aloud_from:
            yield from outputs
        else:
            for _ in outputs:
                pass

    def advance(self, now: int) -> Iterator[Record]:
        """At the partition's end the wall clock goes on, once there is a stream time."""
        if self.now is not None and now > self.now:
            yield from self._until(now)
            self._by_clock = now

    def _on(self, record: Record, offset: int) -> Iterator[Record]:
        if self.now is None:
            yield from self._begin(record.received_at, offset)
        elif record.received_at > self.now:
            yield from self._until(record.received_at)
        elif record.received_at < self._by_clock:
            self.counts["late"] += 1
        self.offset = offset
        assert self.now is not None
        refused = self._sieve.refuses(record, self.now)
        if refused is not None:
            self.counts[refused] += 1
            return
        market = self._markets.get(record.market)  # type: ignore[attr-defined]
        if market is None:
            self.counts["unlisted"] += 1
            return
        yield from market.deliver(record, offset, self.now)

    def _begin(self, now: int, offset: int) -> Iterator[Record]:
        """What was in effect before the first record, without any point in time."""
        self.now, self.offset = now, offset - 1
        while self._effects and self._effects[0][0] <= now:
            _, _, at, record = heappop(self._effects)
            yield from self._take_effect(record, at)

    def _until(self, now: int) -> Iterator[Record]:
        """Small topics and points of 100 ms in their order, up to and with `now`."""
        assert self.now is not None
        point = (self.now // POINT_US + 1) * POINT_US
        if now - self.now > JUMP_US:
            point = ((now - JUMP_US) // POINT_US + 1) * POINT_US
        effects = self._effects
        while True:
            if effects and effects[0][0] <= min(point, now):
                at, _, offset, record = heappop(effects)
                self.now = at
                yield from self._take_effect(record, offset)
            elif point <= now:
                self.now = point
                yield from self._on_time(point)
                point += POINT_US
            else:
                break
        self.now = now

    def _on_time(self, now: int) -> Iterator[Record]:
        if now % SECOND_US == 0:
            yield from self._rated(self._rates.second(now), now)
        if now % JUMP_US == 0:
            self._sieve.forget(now)
        for name in sorted(self._markets):
            yield from self._markets[name].on_time(now, self.offset)

    def _take_effect(self, record: Record, offset: int) -> Iterator[Record]:
        assert self.now is not None
        if isinstance(record, ReferenceQuote):
            yield from self._rated(self._rates.heard(source_of(record, offset), self.now), self.now)
        elif isinstance(record, Rule):
            self._rules[record.rule] = record
            yield from self._tell_all(record)
        elif isinstance(record, Instrument):
            yield from self._list(record)

    def _rated(self, changed: list[Worth], now: int) -> Iterator[Record]:
        for worth in changed:
            yield from self._tell_all(rate_of(worth, now))

    def _tell_all(self, record: Record) -> Iterator[Record]:
        assert self.now is not None
        for name in sorted(self._markets):
            yield from self._markets[name].deliver(record, self.offset, self.now)

    def _list(self, listing: Instrument) -> Iterator[Record]:
        """A market comes into being with its first instrument, and is told what is in force."""
        assert self.now is not None
        before = self._market_of.get(listing.instrument)
        if before is not None and before != listing.market:
            gone = msgspec.structs.replace(listing, market=before, status="delisted")
            yield from self._markets[before].deliver(gone, self.offset, self.now)
            del self._market_of[listing.instrument]
        if partition_of(listing.market.encode(), self._partitions) != self.number:
            return
        self._market_of[listing.instrument] = listing.market
        if listing.market not in self._markets:
            market = Market(listing.market, self._config, self._makes, self._own.pop(listing.market, ()))
            self._markets[listing.market] = market
            in_force: list[Record] = [
                rate_of(self._rates.worth[asset], self.now) for asset in sorted(self._rates.worth)
            ]
            in_force += [self._rules[name] for name in sorted(self._rules)]
            for record in in_force:
                yield from market.deliver(record, self.offset, self.now)
        yield from self._markets[listing.market].deliver(listing, self.offset, self.now)

    def _refuse(self, value: bytes, offset: int, appended_at: int, error: str) -> Iterator[Record]:
        if offset < self.aloud_from:
            return
        self.counts["dead_letters"] += 1
        second = appended_at // SECOND_US
        self._dead = (second, self._dead[1] + 1 if self._dead[0] == second else 1)
        if self._dead[1] <= DEAD_LETTERS_A_SECOND:
            yield dead_letter("market", self.number, offset, appended_at, value, error)


def dead_letter(
    topic: str, partition: int, offset: int, appended_at: int, value: bytes, error: str
) -> DeadLetter:
    """A Kafka value that is not what it should be; its received_at is when the broker took it."""
    return DeadLetter(
        received_at=appended_at,
        origin=f"{topic}/{partition}",
        topic=topic,
        partition=partition,
        offset=offset,
        error=error[:500],
        payload=b64encode(value[:PAYLOAD_BYTES]).decode(),
        length=len(value),
        sha256=hashlib.sha256(value).hexdigest(),
    )
