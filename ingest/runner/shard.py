"""Some instruments of a venue on one connection after another.

A feed lives for one connection. When it is lost its successor is connected after a jittered pause, and until the
successor is live in every instrument that was, the lost one goes on saying that its quotes are empty. A planned end (a
notice, the venue's 24 h) is a replacement: the successor is built beside it and takes over when it is live.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
import structlog

from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from cexdex.runtime.clock import now_us
from ingest.feed import TICK_US, Listed
from ingest.runner.link import Link, Owner

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 60.0
STABLE_AFTER_S = 60.0
REPLACED_WITHIN_S = 60.0
BEFORE_THE_END_S = 600
"""So long before the venue closes a connection by its age it is replaced."""


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
        self._gone: Link | None = None
        self._outage: VenueStatus | None = None

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        link, task = self._start()
        ticking = asyncio.create_task(self._tick_gone(), name=f"{self._owner.venue.id} gone")
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
            for part in (task, ticking):
                part.cancel()
            await asyncio.gather(task, ticking, return_exceptions=True)
            for last in self._active:  # a stage that is stopped says so: its quotes are empty from now on
                last.lost(now_us())

    def _start(self) -> tuple[Link, asyncio.Task[None]]:
        self._links += 1
        name = f"ws.{self._number}.{self._links}"
        link = Link(self._owner, name, self._listed, self._trades.values(), self._emit)
        self._active.append(link)
        return link, asyncio.create_task(link.run(self._opened), name=f"{self._owner.venue.id} {name}")

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
        takeover = asyncio.create_task(self._as_live(link, old))
        await asyncio.wait(
            {takeover, task, old_task}, timeout=REPLACED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        succeeded = takeover.done() and not task.done()
        takeover.cancel()
        if old_task.done() and not succeeded:
            self._lost(old)
            return link, task
        if not succeeded:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._active.remove(link)
            old.wanted.clear()
            log.warning("replacement failed", venue=self._owner.venue.id, why=link.why or "not live in time")
            await asyncio.sleep(1.0)
            old.wanted.set()
            return old, old_task
        self._active.remove(old)
        old_task.cancel()
        await asyncio.gather(old_task, return_exceptions=True)
        self._owner.count(old.feed.counts)
        self._status("replaced", now_us(), f"{old.name} by {link.name}: {old.why}")
        return link, task

    async def _as_live(self, link: Link, old: Link) -> None:
        while link.session is None or not link.first_live >= old.feed.live():
            link.turned.clear()
            await link.turned.wait()

    def _opened(self, link: Link) -> None:
        now = now_us()
        self._owner.monitor.well(f"{self._owner.venue.id} {self._number}")
        self._status("connected", now, f"{link.name} for {len(self._listed)} instruments")
        if self._outage is not None:
            self._owner.publisher.publish(msgspec.structs.replace(self._outage, ended_at=now))
            self._outage = None

    def _lost(self, link: Link) -> None:
        now = now_us()
        self._active.remove(link)
        link.lost(now)
        self._owner.count(link.feed.counts)
        if link.session is not None:
            self._gone = link
        self._owner.monitor.problem(
            f"{self._owner.venue.id} {self._number}", f"{self._owner.venue.id}: {link.why}; connecting again"
        )
        self._owner.live(self._number, 0)
        if self._outage is None:
            self._outage = self._status("disconnected", now, link.why)

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
        if isinstance(record, Quote | Book):
            if record.state == "live":
                self._now_live(link, record.instrument)
            elif record.instrument not in link.first_live and (
                self._gone is not None or len(self._active) > 1
            ):
                return  # a successor says nothing before its first live record
        elif isinstance(record, Trade) and record.origin == "live":
            last = self._trades.get(record.instrument)
            if last is not None and int(record.trade_id) <= int(last.trade_id):
                return  # the other link had it
            self._trades[record.instrument] = record
            for other in self._active:
                if other is not link:
                    other.feed.recall(record)
        self._owner.publisher.publish(record)

    def _now_live(self, link: Link, instrument: str) -> None:
        if instrument not in link.first_live:
            link.first_live.add(instrument)
            link.turned.set()
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
