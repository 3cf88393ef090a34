"""One connection and its feed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import structlog
from prometheus_client import Counter as MetricCounter

from cexdex.config import Venue as VenueConfig
from cexdex.config import assets
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from cexdex.runtime.clock import now_us
from cexdex.runtime.http import Http, RequestFailedError
from cexdex.runtime.metrics import Monitor
from cexdex.runtime.sockets import Socket, SocketClosedError, opened
from ingest.deadletters import DeadLetters
from ingest.feed import TICK_US, Channels, Fetch, Listed, Output, Reconnect, Send, Venue
from ingest.recording import Line, ticks

log = structlog.get_logger(__name__)

FETCH_PAUSES_S = (0.5, 1.0, 2.0, 5.0)

_frames = MetricCounter("cexdex_ingest_frames", "frames received", ["venue"])
_bytes = MetricCounter("cexdex_ingest_bytes", "their bytes", ["venue"])
_connects = MetricCounter("cexdex_ingest_connects", "connections made", ["venue"])


class Outlet(Protocol):
    """Where records go: Kafka, or nowhere when only frames are wanted."""

    @property
    def full(self) -> bool: ...
    def publish(self, record: Record) -> None: ...
    async def room(self) -> None: ...
    def take_gaps(self) -> Sequence[Record]: ...


class Owner(Protocol):
    """What a connection needs of its venue."""

    venue: Venue
    settings: VenueConfig
    channels: Channels
    publisher: Outlet
    http: Http
    tap: Callable[[str, Line], None] | None
    monitor: Monitor
    recalled: dict[str, Trade]

    async def permission(self) -> None: ...
    def live(self, shard: int, count: int) -> None: ...
    def count(self, counts: Counter[str]) -> None: ...


class Link:
    """Opens a socket, feeds the feed and does what it asks for, until the connection ends.

    `emit` is given the feed's records; `wanted` is set when the feed asks to be replaced while it still works,
    `turned` when it may have become fit to take over from another; `first_live` names the instruments of which a
    live quote of its was published.
    """

    def __init__(
        self,
        owner: Owner,
        name: str,
        listed: Sequence[Listed],
        trades: Iterable[Trade],
        emit: Callable[[Link, Record], None],
    ) -> None:
        self.name = name
        self.feed = owner.venue.feed(listed, owner.settings, assets(), owner.channels)
        for trade in trades:
            self.feed.recall(trade)
        self.session: Micros | None = None
        self.wanted = asyncio.Event()
        self.turned = asyncio.Event()
        self.why = ""
        self.first_live: set[str] = set()
        self._owner = owner
        self._emit = emit
        self._letters = DeadLetters(owner.venue.id, name, self.feed.counts)
        self._sends: asyncio.Queue[bytes] = asyncio.Queue()
        self._over = asyncio.Event()
        self._fetches: set[asyncio.Task[None]] = set()
        self._told: Micros = 0

    async def run(self, opened_at: Callable[[Link], None], ended: Callable[[Link], None]) -> None:
        """The connection's life; returns, with `why`, when it is over.

        `ended` is called the moment that it is: closing a half-open socket takes seconds more.
        """
        owner = self._owner
        await owner.permission()
        try:
            async with opened(owner.settings.ws_url, max_bytes=owner.settings.max_frame_mb << 20) as socket:
                _connects.labels(owner.venue.id).inc()
                self.session = self._told = now = now_us()
                opened_at(self)
                self._tap("connect", b"", now)
                self._perform(self.feed.connected(now), now)
                try:
                    await self._work(socket)
                except SocketClosedError as error:
                    self.why = self.why or str(error)
                ended(self)
        except SocketClosedError as error:
            self.why = self.why or str(error)

    def lost(self, now: Micros) -> None:
        """The connection is gone: the feed says so for every instrument."""
        if self.session is not None:
            self._perform(self.feed.lost("disconnected", now), now)

    def on_time(self, now: Micros) -> None:
        """Tells the feed every 100 ms point up to `now`."""
        for tick in ticks(self._told, now):
            self._perform(self.feed.on_time(tick), tick)
        self._told = max(self._told, now)

    async def _work(self, socket: Socket) -> None:
        tasks = [
            asyncio.create_task(part, name=f"{self._owner.venue.id} {self.name}")
            for part in (self._read(socket), self._write(socket), self._tick(), self._over.wait())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            everything = [*tasks, *self._fetches]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _read(self, socket: Socket) -> None:
        owner, feed, letters = self._owner, self.feed, self._letters
        frames, volume = _frames.labels(owner.venue.id), _bytes.labels(owner.venue.id)
        while True:
            frame = await socket.receive()
            now = now_us()
            frames.inc()
            volume.inc(len(frame))
            if owner.tap is not None:
                self._tap("recv", frame, now)
            if now // TICK_US != self._told // TICK_US:
                self.on_time(now)
            self._perform(letters.receive(feed, frame, now), now)
            if owner.publisher.full:
                await owner.publisher.room()

    async def _write(self, socket: Socket) -> None:
        """Sends what the feed wants said, within the venue's rate."""
        pause = 1 / self._owner.settings.messages_per_s
        while True:
            text = await self._sends.get()
            self._tap("send", text, now_us())
            await socket.send(text)
            await asyncio.sleep(pause)

    async def _tick(self) -> None:
        while True:
            now = now_us()
            await asyncio.sleep((TICK_US - now % TICK_US) / 1e6)
            self.on_time(now_us())

    def _perform(self, outputs: Iterable[Output], now: Micros) -> None:
        for output in outputs:
            if isinstance(output, Record):
                self._emit(self, output)
            elif isinstance(output, Send):
                self._sends.put_nowait(output.text)
            elif isinstance(output, Fetch):
                task = asyncio.create_task(self._fetch(output), name=f"{self.name} {output.tag}")
                self._fetches.add(task)
                task.add_done_callback(partial(self._fetch_done, output.tag))
            elif isinstance(output, Reconnect):
                self.why = output.reason
                if output.planned:
                    self.wanted.set()
                else:
                    self._over.set()

    async def _fetch(self, fetch: Fetch) -> None:
        attempt = 0
        while True:
            try:
                body = await self._owner.http.get(fetch.url)
                break
            except RequestFailedError as error:
                pause = max(FETCH_PAUSES_S[min(attempt, len(FETCH_PAUSES_S) - 1)], error.retry_after_s)
                attempt += 1
                log.warning("request failed", venue=self._owner.venue.id, tag=fetch.tag, error=str(error))
                await asyncio.sleep(pause)
        now = now_us()
        if self._owner.tap is not None:
            line = Line(now, "http.1", "http", fetch.url, body.decode(errors="replace"))
            self._owner.tap(self._owner.venue.id, line)
        self._perform(self._letters.fetched(self.feed, fetch.tag, body, now), now)

    def _fetch_done(self, tag: str, task: asyncio.Task[None]) -> None:
        """A request that ends otherwise than by its answer leaves the feed waiting: the connection is given up."""
        self._fetches.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("request broke", venue=self._owner.venue.id, tag=tag, exc_info=error)
            self.why = self.why or f"request {tag} broke: {error!r}"
            self._over.set()

    def _tap(self, kind: str, data: bytes, now: Micros) -> None:
        if self._owner.tap is not None:
            line = Line(now, self.name, kind, self._owner.settings.ws_url, data.decode(errors="replace"))
            self._owner.tap(self._owner.venue.id, line)
