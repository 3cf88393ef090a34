"""Some instruments of a venue on one connection after another.

A feed lives for one connection. When it is lost its successor is connected after a jittered pause, and until the
successor is live in every instrument that was, the lost one goes on saying that its quotes are empty. A planned end (a
notice, the venue's 24 h) is a replacement: the successor is built beside it and takes over when it is live in all that
the old one is live in. Until then it publishes nothing, so that one that is given up leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
import structlog

from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import Micros, Record
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from cexdex.runtime.clock import now_us
from ingest.feed import TICK_US, Listed
from ingest.runner.link import Link, Owner
from ingest.trades import hole_behind

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 60.0
STABLE_AFTER_S = 60.0
REPLACED_WITHIN_S = 60.0
BEFORE_THE_END_S = 600
"""So long before the venue closes a connection by its age it is replaced."""


HELD_TRADES = 10_000
"""So many trades and holes of a successor are kept until it takes over."""


class Held:
    """A successor beside a link that still works, and what it would have said."""

    def __init__(self, old: Link, link: Link) -> None:
        self.old = old
        self.link = link
        self.abandoned = False
        self.quotes: dict[str, Quote] = {}
        self.books: dict[str, Book] = {}
        self.trades: deque[Trade | VenueStatus] = deque(maxlen=HELD_TRADES)

    def keeps(self, record: Record) -> bool:
        """Whether a record of the successor is held back: of quotes and books the newest, while they are live."""
        if isinstance(record, Quote):
            if record.state == "live":
                self.quotes[record.instrument] = record
            else:
                self.quotes.pop(record.instrument, None)
                self.books.pop(record.instrument, None)
            self.link.turned.set()
        elif isinstance(record, Book):
            if record.state == "live":
                self.books[record.instrument] = record
        elif isinstance(record, Trade | VenueStatus):
            self.trades.append(record)
        else:
            return isinstance(record, ReferenceQuote)
        return True


class Shard:
    """Keeps its instruments on a connection."""

    def __init__(self, owner: Owner, number: int, listed: Sequence[Listed]) -> None:
        self._owner = owner
        self._number = number
        self._listed = listed
        self._links = 0
        self._trades = {
            entry.instrument.instrument: trade
            for entry in listed
            if (trade := owner.recalled.get(entry.instrument.instrument)) is not None
        }
        self._active: list[Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: Held | None = None
        self._gone: Link | None = None
        self._outage: VenueStatus | None = None

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        link, task = self._start()
        self._task(self._tick_gone(), "gone")
        try:
            while True:
                began = asyncio.get_running_loop().time()
                await _first(task, self._wanted(link))
                if not task.done():
                    link, task = await self._replace(link, task)
                    continue
                task.result()
                self._lost(link)
                failures = 0 if asyncio.get_running_loop().time() - began > STABLE_AFTER_S else failures + 1
                await self._pause(failures, link.why)
                link, task = self._start()
        finally:
            everything = list(self._tasks)
            for part in everything:
                part.cancel()
            await asyncio.gather(*everything, return_exceptions=True)
            for last in self._active:  # a stage that is stopped says so: its quotes are empty from now on
                last.lost(now_us())

    def _start(self) -> tuple[Link, asyncio.Task[None]]:
        self._links += 1
        name = f"ws.{self._number}.{self._links}"
        link = Link(self._owner, name, self._listed, self._trades.values(), self._emit)
        self._active.append(link)
        return link, self._task(link.run(self._opened, self._lost), name)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins what ends with this shard at the latest."""
        task = asyncio.create_task(work, name=f"{self._owner.venue.id} {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _wanted(self, link: Link) -> None:
        """Returns when a link that works is to be replaced: it asks for it, or its age does."""
        lifetime = self._owner.venue.lifetime_s
        timeout = None if lifetime is None else lifetime - BEFORE_THE_END_S
        try:
            await asyncio.wait_for(link.wanted.wait(), timeout)
        except TimeoutError:
            link.why = "the venue closes a connection of this age"

    async def _replace(self, old: Link, old_task: asyncio.Task[None]) -> tuple[Link, asyncio.Task[None]]:
        """Builds a successor beside a link that still works, and closes that when the successor is live."""
        link, task = self._start()
        held = self._held = Held(old, link)
        takeover = self._task(self._take_over_when_live(held, old_task), f"{link.name} takes over")
        await asyncio.wait(
            {takeover, task, old_task}, timeout=REPLACED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        if takeover.done():
            takeover.result()
        if self._held is held:
            if old_task.done() and not task.done():
                old_task.result()
                self._lost(old)
            else:
                self._abandon(held)
        takeover.cancel()
        if not held.abandoned:
            return link, task
        error = task.exception() if task.done() and not task.cancelled() else None
        why = link.why or (repr(error) if error else "not live in time")
        task.cancel()
        log.warning("replacement failed", venue=self._owner.venue.id, why=why)
        old.wanted.clear()
        await asyncio.sleep(1.0)
        old.wanted.set()
        return old, old_task

    async def _take_over_when_live(self, held: Held, old_task: asyncio.Task[None]) -> None:
        """Ends when the successor speaks or is given up."""
        old, link = held.old, held.link
        while self._held is held:
            link.turned.clear()
            if link.session is not None and link.feed.live() >= old.feed.live():
                self._active.remove(old)
                old_task.cancel()  # without `lost`, and nobody waits until its socket is closed
                self._release(held)
                self._owner.count(old.feed.counts)
                self._status("replaced", now_us(), f"{old.name} by {link.name}: {old.why}")
                return
            await link.turned.wait()

    def _abandon(self, held: Held) -> None:
        """A successor that said nothing is given up."""
        self._held = None
        self._active.remove(held.link)
        held.abandoned = True
        held.link.turned.set()

    def _release(self, held: Held) -> None:
        """The successor speaks from now on, first what it was not allowed to say: the trades that the old one had not
        given yet, and its newest quotes and books."""
        self._held = None
        link = held.link
        link.turned.set()
        for trade in self._trades.values():
            link.feed.recall(trade)
        given = {name: int(trade.trade_id) for name, trade in self._trades.items()}
        for record in held.trades:
            last = given.get(record.instrument, -1)
            if isinstance(record, Trade):
                if int(record.trade_id) > last:
                    self._emit(link, record)
            elif (hole := hole_behind(record, last)) is not None:
                self._emit(link, hole)
        for said in (*held.quotes.values(), *held.books.values()):
            self._emit(link, said)

    def _opened(self, link: Link) -> None:
        if self._held is not None and link is self._held.link:
            link.turned.set()
            return
        now = now_us()
        self._owner.monitor.well(f"{self._owner.venue.id} {self._number}")
        self._status("connected", now, f"{link.name} for {len(self._listed)} instruments")
        if self._outage is not None:
            self._owner.publisher.publish(msgspec.structs.replace(self._outage, ended_at=now))
            self._outage = None

    def _lost(self, link: Link) -> None:
        """A connection is over; the second time nothing happens."""
        held = self._held
        if link not in self._active:
            return
        if held is not None and link is held.link:
            self._abandon(held)
            return
        now = now_us()
        link.lost(now)
        self._active.remove(link)
        self._owner.count(link.feed.counts)
        if link.session is not None and (self._gone is None or link.first_live >= self._gone.first_live):
            self._gone = link
        self._owner.monitor.problem(
            f"{self._owner.venue.id} {self._number}", f"{self._owner.venue.id}: {link.why}; connecting again"
        )
        self._owner.live(self._number, 0)
        if self._outage is None:
            self._outage = self._status("disconnected", now, link.why)
        if held is not None:
            self._held = None
            if held.link.session is not None:
                self._opened(held.link)
            self._release(held)

    async def _pause(self, failures: int, why: str) -> None:
        """Full jitter: after a common outage the clients of a venue do not come back all at once."""
        pause = random.uniform(0, min(LONGEST_PAUSE_S, 0.5 * 2 ** min(failures, 10)))
        log.warning(
            "disconnected",
            venue=self._owner.venue.id,
            shard=self._number,
            why=why,
            again_in_s=round(pause, 2),
        )
        await asyncio.sleep(pause)

    async def _tick_gone(self) -> None:
        """What was lost goes on saying so until its successor is live in everything that it was."""
        while True:
            await asyncio.sleep(TICK_US / 1e6)
            if self._gone is not None:
                self._gone.on_time(now_us())

    def _emit(self, link: Link, record: Record) -> None:
        """Publishes a feed's record, unless another link speaks for its instrument."""
        held = self._held
        if held is not None and link is held.link:
            if held.keeps(record):
                return
        elif link not in self._active and link is not self._gone:
            return  # closed without `lost`, or given up
        if isinstance(record, Quote | Book | ReferenceQuote):
            if record.state == "live":
                if not isinstance(record, ReferenceQuote):
                    self._now_live(link, record.instrument)
            elif self._gone is not None:
                if link is not self._gone:
                    if record.instrument not in link.first_live:
                        return  # a successor says nothing before its first live record
                elif any(
                    record.instrument in other.first_live for other in self._active if other is not link
                ):
                    return
            if held is not None and link is held.old:
                held.link.turned.set()  # what it has to be live in may have become less
        elif isinstance(record, Trade):
            last = self._trades.get(record.instrument)
            if last is None or int(record.trade_id) > int(last.trade_id):
                self._trades[record.instrument] = record
            elif record.origin == "live":
                return  # the other link had it
            if held is not None:
                held.link.feed.recall(record)
        self._owner.publisher.publish(record)

    def _now_live(self, link: Link, instrument: str) -> None:
        if instrument not in link.first_live:
            link.first_live.add(instrument)
            self._owner.live(self._number, len(link.feed.live()))
            if self._gone is not None and link.first_live >= self._gone.first_live:
                self._gone = None

    def _status(self, kind: str, now: Micros, reason: str) -> VenueStatus:
        status = VenueStatus(
            venue=self._owner.venue.id,
            kind=kind,  # type: ignore[arg-type]
            started_at=now,
            received_at=now,
            reason=reason[:200],
        )
        self._owner.publisher.publish(status)
        return status


async def _first(task: asyncio.Task[None], other: Coroutine[Any, Any, None]) -> None:
    waiting = asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
