"""Scripted feeds on sockets that are none, and a shard that runs on them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from cexdex.config import assets, load
from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import Record
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from cexdex.runtime.metrics import Monitor
from cexdex.runtime.sockets import SocketClosedError
from ingest.feed import Listed, Output, Reconnect
from ingest.listing import listed_instrument
from ingest.runner import shard as shards
from ingest.runner.shard import Shard
from ingest.trades import TradeLog

A, B = "coinbase:BTC-USD", "coinbase:ETH-USD"
T0 = 1_700_000_000_000_000


def entry(base: str) -> Listed:
    listed = listed_instrument(
        "coinbase", f"{base}-USD", base, "USD", load().venues["coinbase"], assets(), T0, status="trading"
    )
    assert listed is not None
    return listed


class Script:
    """A feed that says what it is told to, and the socket that it is on."""

    def __init__(self, listed: Sequence[Listed]) -> None:
        self.counts: Counter[str] = Counter()
        self.names = [each.instrument.instrument for each in listed]
        self.logs = {each.instrument.instrument: TradeLog(each.instrument, self.counts) for each in listed}
        self.recalled: list[str] = []
        self.states: dict[str, str] = {}
        self.session = 0
        self.lost_at = 0
        self.closed = False
        self._frames: asyncio.Queue[list[Output] | None] = asyncio.Queue()
        self._now: list[Output] = []

    # the socket
    async def receive(self) -> bytes:
        outputs = await self._frames.get()
        if outputs is None:
            raise SocketClosedError("the connection broke")
        self._now = outputs
        return b"{}"

    async def send(self, text: bytes) -> None:
        return None

    # the feed
    def recall(self, own: Record) -> None:
        assert isinstance(own, Trade)
        self.recalled.append(own.trade_id)
        self.logs[own.instrument].recall(own)

    def connected(self, now: int) -> Iterator[Output]:
        self.session = now
        return iter(())

    def receive_frame(self) -> Iterator[Output]:
        for output in self._now:
            if isinstance(output, Quote):
                self.states[output.instrument] = output.state
            yield output

    def fetched(self, tag: str, body: bytes, now: int) -> Iterator[Output]:
        return iter(())

    def on_time(self, now: int) -> Iterator[Output]:
        if self.lost_at and now % 1_000_000 == 0:
            for name in self.names:
                yield reference(name, self.session, "stale")

    def lost(self, reason: str, now: int) -> Iterator[Output]:
        self.lost_at = now
        for name in self.names:
            self.states[name] = "stale"
            yield quote(name, self.session, "stale")

    def live(self) -> set[str]:
        return {name for name, state in self.states.items() if state == "live"}

    # the test
    def say(self, *outputs: Output) -> None:
        self._frames.put_nowait(list(outputs))

    def quote(self, name: str, state: str = "live", bid: float = 100.0) -> None:
        self.say(quote(name, self.session, state, bid))

    def trade(self, name: str, *ids: int, snapshot: bool = False) -> None:
        self.say(
            *(
                record
                for number in ids
                for record in self.logs[name].trade(number, 1.0, 1.0, "buy", T0, T0, snapshot=snapshot)
            )
        )

    def breaks(self) -> None:
        self._frames.put_nowait(None)


class OnSocket(Script):
    """`receive` is the feed's when it is given a frame and the socket's when it is not."""

    def receive(self, *frame: Any) -> Any:
        return self.receive_frame() if frame else super().receive()


def quote(name: str, session: int, state: str = "live", bid: float = 100.0) -> Quote:
    live = state == "live"
    return Quote(
        market=name.split(":")[1], venue="coinbase", instrument=name, base_asset="X", quote_asset="USD",
        received_at=T0, bid=bid if live else None, bid_size=1.0 if live else None, ask=None, ask_size=None,
        session=session, ordinal=0, sequence=None, source="book", changed_at=T0, verified_at=T0,
        state=state, reason=None if live else "disconnected",
    )  # type: ignore[arg-type]  # fmt: skip


def book(name: str, session: int) -> Book:
    return Book(
        market=name.split(":")[1], instrument=name, received_at=T0, bids=[], asks=[], exact_levels=(0, 0),
        reference_price=None, bids_complete_to_bps=None, asks_complete_to_bps=None, session=session, ordinal=0,
        sequence=None, state="live", reason=None,
    )  # fmt: skip


def reference(name: str, session: int, state: str) -> ReferenceQuote:
    return ReferenceQuote(
        market=name.split(":")[1], venue="coinbase", instrument=name, base_asset="X", quote_asset="USD",
        received_at=T0, bid=None, ask=None, taker_fee_bps=0.0, session=session, changed_at=T0, verified_at=T0,
        state=state, reason=None,
    )  # type: ignore[arg-type]  # fmt: skip


class Stage:
    """The owner of a shard: keeps what is published, every feed that was made, and answers no request."""

    def __init__(self) -> None:
        config = load()
        self.settings = config.venues["coinbase"]
        self.channels: Any = None
        self.venue: Any = SimpleNamespace(id="coinbase", feed=self._feed, lifetime_s=None)
        self.monitor = Monitor("test", port=0)
        self.tap = None
        self.recalled: dict[str, Trade] = {}
        self.publisher: Any = self
        self.http: Any = self
        self.full = False
        self.heard: list[Record] = []
        self.feeds: list[OnSocket] = []
        self.closing = asyncio.Event()
        self.closing.set()
        self.answer: Callable[[], bytes] = lambda: b""
        self._come = asyncio.Event()

    def _feed(self, listed: Sequence[Listed], *_: Any) -> OnSocket:
        self.feeds.append(OnSocket(listed))
        return self.feeds[-1]

    @asynccontextmanager
    async def opened(self, url: str, *, max_bytes: int) -> AsyncIterator[OnSocket]:
        feed = self.feeds[-1]
        try:
            yield feed
        finally:
            await self.closing.wait()
            feed.closed = True
            self._come.set()

    async def permission(self) -> None:
        return None

    async def get(self, url: str) -> bytes:
        return self.answer()

    def live(self, shard: int, count: int) -> None:
        self._come.set()

    def count(self, counts: Counter[str]) -> None:
        counts.clear()

    def publish(self, record: Record) -> None:
        self.heard.append(record)
        self._come.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)  # lets the others run

    async def next_feed(self, number: int) -> OnSocket:
        await self.until(lambda: len(self.feeds) >= number and self.feeds[number - 1].session)
        return self.feeds[number - 1]

    async def taken(self, feed: OnSocket) -> None:
        """Everything that the feed was told to say it has said."""
        await self.until(feed._frames.empty)
        for _ in range(10):
            await asyncio.sleep(0)

    def of(self, kind: type, since: int = 0) -> list[Any]:
        return [record for record in self.heard[since:] if isinstance(record, kind)]

    def trades(self) -> list[tuple[str, str]]:
        return [(trade.trade_id, trade.origin) for trade in self.of(Trade)]

    def statuses(self) -> list[str]:
        return [status.kind for status in self.of(VenueStatus)]


@asynccontextmanager
async def stage(
    monkeypatch: pytest.MonkeyPatch, bases: Iterable[str] = ("BTC",)
) -> AsyncIterator[tuple[Stage, OnSocket]]:
    it = Stage()
    monkeypatch.setattr("ingest.runner.link.opened", it.opened)
    monkeypatch.setattr(shards.random, "uniform", lambda *_: 0.0)
    work = asyncio.create_task(Shard(it, 1, [entry(base) for base in bases]).run())
    try:
        yield it, await it.next_feed(1)
    finally:
        it.closing.set()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def replacing(it: Stage, old: OnSocket) -> OnSocket:
    old.say(Reconnect("a notice", planned=True))
    return await it.next_feed(len(it.feeds) + 1)
