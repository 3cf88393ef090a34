"""One venue: its listing, its limits, and its instruments spread over connections."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

import structlog
from prometheus_client import Gauge

from cexdex.config import Config, assets
from cexdex.records.trade import Trade
from cexdex.runtime.clock import now_us
from cexdex.runtime.http import Http, RequestFailedError
from cexdex.runtime.metrics import Monitor
from ingest.feed import Channels, Listed, Venue
from ingest.listing import followed, shown
from ingest.recording import Line
from ingest.runner.link import Outlet
from ingest.runner.shard import Shard

log = structlog.get_logger(__name__)

LISTING_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)

_counted = Gauge("cexdex_ingest_counted", "what feeds ignored, dropped or found wrong", ["venue", "what"])
_live = Gauge("cexdex_ingest_live_instruments", "instruments with a live quote", ["venue"])

Tap = Callable[[str, Line], None]
"""Is given every line of a venue's traffic, for `capture`."""


class VenueRunner:
    """One venue: its listing, and its instruments spread over connections."""

    def __init__(
        self,
        venue: Venue,
        config: Config,
        publisher: Outlet,
        monitor: Monitor,
        recalled: dict[str, Trade],
        tap: Tap | None,
    ) -> None:
        self.venue = venue
        self.config = config
        self.settings = config.venues[venue.id]
        self.publisher = publisher
        self.monitor = monitor
        self.recalled = recalled
        self.tap = tap
        self.http = Http()
        self.counts: Counter[str] = Counter()
        self.channels = Channels(top_of_book=self.settings.top_of_book, trades=self.settings.trades)
        self._connects: deque[float] = deque()
        self._lives: dict[int, int] = {}

    async def run(self) -> None:
        try:
            listed = await self._listing()
            chosen = followed(listed, self.config, assets())
            if not chosen:
                log.warning("nothing to follow", venue=self.venue.id, markets=self.config.markets)
                self.monitor.problem(
                    self.venue.id, f"{self.venue.id} lists none of {', '.join(self.config.markets)}"
                )
                return
            trading = [entry for entry in chosen if entry.instrument.status != "halted"]
            log.info("following", venue=self.venue.id, instruments=[e.instrument.instrument for e in trading])
            async with asyncio.TaskGroup() as tasks:
                for number, start in enumerate(range(0, len(trading), self.venue.shard), 1):
                    shard = Shard(self, number, trading[start : start + self.venue.shard])
                    tasks.create_task(shard.run(), name=f"{self.venue.id} {number}")
        finally:
            await self.http.close()

    async def permission(self) -> None:
        """Waits until one more connection keeps within the venue's limit."""
        loop = asyncio.get_running_loop()
        while True:
            while self._connects and loop.time() - self._connects[0] > 300:
                self._connects.popleft()
            if len(self._connects) < self.settings.connects_per_5min:
                self._connects.append(loop.time())
                return
            await asyncio.sleep(1.0)

    def live(self, shard: int, count: int) -> None:
        """How many instruments of a shard are live now."""
        self._lives[shard] = count
        _live.labels(self.venue.id).set(sum(self._lives.values()))

    def count(self, counts: Counter[str]) -> None:
        """Adds what a feed counted since the last time, and forgets it there."""
        self.counts.update(counts)
        counts.clear()
        for what, number in self.counts.items():
            _counted.labels(self.venue.id, what).set(number)

    async def _listing(self) -> list[Listed]:
        url = self.settings.rest_url + self.venue.listing_path
        attempt = 0
        while True:
            try:
                body = await self.http.get(url)
                now = now_us()
                listed = self.venue.parse_listing(body, self.settings, assets(), now)
                if self.tap is not None:
                    self.tap(self.venue.id, Line(now, "http.1", "http", url, body.decode()))
                for entry in shown(listed, self.config, assets()):
                    self.publisher.publish(entry.instrument)
                self.monitor.well(self.venue.id)
                return listed
            except (RequestFailedError, ValueError) as error:
                pause = LISTING_PAUSES_S[min(attempt, len(LISTING_PAUSES_S) - 1)]
                pause = max(pause, getattr(error, "retry_after_s", 0.0))
                attempt += 1
                sentence = f"{self.venue.id} cannot be reached: {error}; trying again, the other venues go on"
                self.monitor.problem(self.venue.id, sentence)
                log.warning(
                    "venue cannot be reached", venue=self.venue.id, error=str(error), again_in_s=pause
                )
                await asyncio.sleep(pause)
