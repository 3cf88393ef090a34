"""Binance spot: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams

The book follows "How to manage a local order book correctly" (text of 2025-11-12), with a REST snapshot bridged into
the diff stream; the touch is bookTicker's, which leads the diffs by 24 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf

import msgspec

from cexdex.config import Venue as VenueConfig
from cexdex.domain.assets import Assets
from cexdex.domain.book import OrderBook
from cexdex.records.record import Micros, Reason, Record
from cexdex.records.trade import Trade
from ingest.feed import (
    Channels,
    Fetch,
    LevelSize,
    Listed,
    Output,
    Price,
    Reconnect,
    RefusedFrameError,
    Send,
    Stream,
    TradeSize,
    Venue,
)
from ingest.inverted import inverted_levels
from ingest.listing import listed_instrument
from ingest.livebook import LiveBook
from ingest.sync import SnapshotThenDiffs
from ingest.trades import TradeLog

PARAMS_PER_SUBSCRIBE = 100
ACK_WITHIN_US = 10_000_000
PROBE_EVERY_US = 1_500_000
SNAPSHOT_EVERY_US = 5_000_000
PROBE_LEVELS = 5
ANSWER_WITHIN_US = 20_000_000
SNAPSHOT_WITHIN_US = 30_000_000
REFETCH_AFTER_US = 1_000_000
MISSING_US = 60_000_000
"""A symbol without a book for so long is not subscribed, whatever the acknowledgement said."""
WireLevel = tuple[Price, LevelSize]


class BinanceFeed:
    """Depth, top of book and trades of some symbols on one combined stream."""

    def __init__(
        self, listed: Sequence[Listed], config: VenueConfig, assets: Assets, channels: Channels
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._config = config
        self._channels = channels
        self._symbols = {
            entry.instrument.symbol: _Symbol(entry, config, assets, channels, self.counts) for entry in listed
        }
        self._unacknowledged: dict[int, Micros] = {}
        self._acknowledged = False

    def recall(self, own: Record) -> None:
        if isinstance(own, Trade):
            for symbol in self._symbols.values():
                if symbol.live.instrument.instrument == own.instrument:
                    symbol.trades.recall(own)

    def connected(self, now: Micros) -> Iterator[Output]:
        streams = [
            "depth@100ms",
            self._channels.trades,
            *(["bookTicker"] if self._channels.top_of_book else []),
        ]
        for symbol in self._symbols.values():
            symbol.live.start(now)
            symbol.missing_since = now
        params = [f"{name.lower()}@{stream}" for name in self._symbols for stream in streams]
        for number, start in enumerate(range(0, len(params), PARAMS_PER_SUBSCRIBE), 1):
            part = params[start : start + PARAMS_PER_SUBSCRIBE]
            self._unacknowledged[number] = now
            yield Send(msgspec.json.encode({"method": "SUBSCRIBE", "params": part, "id": number}))

    def receive(self, frame: bytes, now: Micros) -> Iterator[Output]:
        head = frame[:96]
        if b"@bookTicker" in head:
            return self._ticker(_ticker_frame.decode(frame).data, now)
        if b"@trade" in head or b"@aggTrade" in head:
            return self._trade(_trade_frame.decode(frame).data, now)
        if b"@depth" in head:
            return self._depth(_depth_frame.decode(frame).data, now)
        return self._other(frame, now)

    def fetched(self, tag: str, body: bytes, now: Micros) -> Iterator[Output]:
        purpose, _, name = tag.partition(":")
        symbol = self._symbols[name]
        try:
            snapshot = _snapshot.decode(body)
        except msgspec.DecodeError:
            symbol.unanswered(purpose)
            raise
        if purpose == "probe":
            yield from symbol.probed(snapshot, now)
        else:
            yield from symbol.snapshot(snapshot, now)

    def on_time(self, now: Micros) -> Iterator[Output]:
        for symbol in self._symbols.values():
            yield from symbol.on_time(now)
        due = [number for number, sent in self._unacknowledged.items() if now - sent > ACK_WITHIN_US]
        if due:
            self._unacknowledged.clear()
            # a recording may begin after the answers: what flows was subscribed
            if self._acknowledged or not all(symbol.heard for symbol in self._symbols.values()):
                yield Reconnect(
                    f"subscription {due[0]} was not acknowledged within {ACK_WITHIN_US // 1_000_000} s"
                )

    def lost(self, reason: str, now: Micros) -> Iterator[Output]:
        self._unacknowledged.clear()
        for symbol in self._symbols.values():
            symbol.closed = True
            yield from symbol.live.fail("ended" if reason == "ended" else "disconnected", now, "stale")

    def live(self) -> set[str]:
        return {symbol.live.instrument.instrument for symbol in self._symbols.values() if symbol.live.is_live}

    def _depth(self, event: Depth, now: Micros) -> Iterator[Output]:
        return self._of(event.s).depth(event, now)

    def _ticker(self, event: BookTicker, now: Micros) -> Iterator[Output]:
        if not self._channels.top_of_book:
            return iter(())
        touch = (event.b or None, event.B, event.a or None, event.A)
        return iter(self._of(event.s).live.top(touch, now, sequence=event.u))

    def _trade(self, event: TradeEvent, now: Micros) -> Iterator[Output]:
        # m: the buyer was the maker, so the taker sold
        return self._of(event.s).trades.trade(
            event.t or event.a, event.p, event.q, "sell" if event.m else "buy", event.T * 1000, now
        )

    def _of(self, name: str) -> _Symbol:
        try:
            return self._symbols[name]
        except KeyError:
            raise RefusedFrameError(f"no subscription to symbol {name!r}") from None

    def _other(self, frame: bytes, now: Micros) -> Iterator[Output]:
        """Acknowledgements, notices, and the raw stream, which has no wrapper."""
        other = _other.decode(frame)
        if other.stream is not None:
            if other.stream == "!serverShutdown":
                yield Reconnect("serverShutdown", planned=True)
            else:
                self.counts["ignored"] += 1
        elif other.e == "depthUpdate":
            yield from self._depth(_depth.decode(frame), now)
        elif other.e in ("trade", "aggTrade"):
            yield from self._trade(_trade.decode(frame), now)
        elif other.e == "serverShutdown":
            yield Reconnect("serverShutdown", planned=True)
        elif other.u is not None and not other.e:
            yield from self._ticker(_ticker.decode(frame), now)
        elif other.code is not None:
            yield Reconnect(f"Binance refused a request: {other.code} {other.msg[:200]!r}")
        elif other.id is not None:
            self._acknowledged = True
            self._unacknowledged.pop(other.id, None)
        else:
            self.counts["ignored"] += 1


class _Symbol:
    """One symbol's book by the venue's numbered steps, and its trades."""

    def __init__(
        self, entry: Listed, config: VenueConfig, assets: Assets, channels: Channels, counts: Counter[str]
    ) -> None:
        self.live = LiveBook(
            entry.instrument,
            assets,
            counts,
            verified_within_us=int(config.verified_within_s * 1e6),
            top_of_book=channels.top_of_book,
        )
        self.trades = TradeLog(entry.instrument, counts)
        self.closed = False
        self._counts = counts
        self._config = config
        self._inverted = entry.instrument.inverted
        self._name = entry.instrument.symbol
        self._last_id = 0
        self._sync = SnapshotThenDiffs()
        self._asked_at = 0
        self._probed_at = 0
        self._probing = False
        self._owed = 0
        self.missing_since = 0

    @property
    def heard(self) -> bool:
        """Whether its diffs arrive."""
        return self.live.whole or self._sync.asked

    def depth(self, event: Depth, now: Micros) -> Iterator[Output]:
        bids, asks = event.b, event.a
        if self._inverted:
            bids, asks = inverted_levels(asks), inverted_levels(bids)
        live = self.live
        if self._sync.asked:
            self._sync.keep((event.U, event.u, bids, asks))
        elif not live.whole:
            # 1. buffer the events from the first one on; 2. ask for a snapshot
            self._sync.ask((event.U, event.u, bids, asks))
            yield self._fetch(now)
        if not live.whole:
            return
        # 5. an event that ends before our id is old; one that starts after the next id leaves a gap
        if event.u <= self._last_id:
            self._counts["diff_repeated"] += 1
            return
        if event.U > self._last_id + 1:
            yield from self._spoilt(
                "gap", now, f"update {self._last_id + 1} was due, got {event.U}", event.U - self._last_id - 1
            )
            self._sync.ask((event.U, event.u, bids, asks))
            yield self._fetch(now)
            return
        self._last_id = event.u
        book = live.book
        orphans = book.bids.apply(bids) + book.asks.apply(asks)
        if orphans:  # removing a level that we do not hold is routine here, not a fault
            self._counts["orphan_deletes"] += orphans
        yield from live.updated(now, sequence=event.u, event_time=event.E * 1000)
        if live.crossed_too_long:
            yield from self._spoilt("crossed", now, "the book stayed crossed with itself")

    def snapshot(self, snapshot: Snapshot, now: Micros) -> Iterator[Output]:
        if self.closed or not self._sync.asked:
            return
        bids, asks = snapshot.bids, snapshot.asks
        # a side that came full stops where it was cut; what lies beyond is not known until it changes
        full = min(self._config.snapshot_limit, 1000)
        low = bids[-1][0] if len(bids) >= full else 0.0
        high = asks[-1][0] if len(asks) >= full else inf
        if self._inverted:
            bids, asks = inverted_levels(asks), inverted_levels(bids)
            low, high = 1 / high, 1 / low if low else inf
        # 3. a snapshot older than the first buffered event: fetch again. 4. drop what it holds, bridge the rest
        bridged = self._sync.offer(snapshot.lastUpdateId, bids, asks)
        if bridged == "too_old":
            self._counts["snapshot_too_old"] += 1
            self._asked_at = now - SNAPSHOT_WITHIN_US + REFETCH_AFTER_US  # `on_time` asks again, not at once
            return
        if isinstance(bridged, str):
            self._sync.forget()
            if not self.live.whole:
                yield from self._spoilt("gap", now, "the buffered updates do not follow each other")
            return
        book, last_id = bridged
        if self.live.whole and last_id < self._last_id:
            self._sync.forget()  # the running book is ahead of what was kept: it stands
            return
        if self.live.whole:
            self._counts["snapshots_taken_over"] += 1
        self._last_id = last_id
        yield from self.live.snapshot(book, (low, high), now, sequence=last_id, event_time=None)

    def unanswered(self, purpose: str) -> None:
        """An answer that nobody can read is none: what waited for it is asked for again."""
        if purpose == "probe":
            self._probing = False
        else:
            self._asked_at = 0

    def probed(self, snapshot: Snapshot, now: Micros) -> Iterator[Output]:
        """A small snapshot of a quiet symbol: agreement at the same id proves the book current."""
        live = self.live
        self._probing = False
        if self.closed or not live.whole or snapshot.lastUpdateId < self._last_id:
            return
        if snapshot.lastUpdateId > self._last_id:
            self._owed = snapshot.lastUpdateId  # the diff must come, or the subscription is dead
            return
        seen = OrderBook(snapshot.bids, snapshot.asks)
        touch = (seen.bids.best, seen.asks.best)
        if self._inverted or touch == (live.book.bids.best, live.book.asks.best):
            live.verified(now)
        else:
            yield from self._spoilt("gap", now, "a snapshot at the same id has another touch")

    def on_time(self, now: Micros) -> Iterator[Output]:
        live = self.live
        yield from live.on_time(now)
        if self.closed:
            return
        if self._sync.asked and now - self._asked_at >= SNAPSHOT_WITHIN_US:
            self._sync.ask()  # what was kept may have a hole by now: begin anew
            yield self._fetch(now)
        if not live.whole:
            if now - self.missing_since > MISSING_US:
                self.missing_since = now
                yield Reconnect(f"{self._name}: no book within {MISSING_US // 1_000_000} s")
            return
        self.missing_since = now
        if live.needs_snapshot() and not self._sync.asked and now - self._asked_at >= SNAPSHOT_EVERY_US:
            self._sync.ask()
            yield self._fetch(now)
        pause = ANSWER_WITHIN_US if self._probing else PROBE_EVERY_US
        if live.needs_proof(now) and now - self._probed_at >= pause:
            if self._owed > self._last_id:
                self._owed = 0
                yield Reconnect(f"{self._name}: the venue is ahead of its own stream")
            self._probed_at, self._probing = now, True
            path = f"/api/v3/depth?symbol={self._name}&limit={PROBE_LEVELS}"
            yield Fetch(f"probe:{self._name}", "depth", self._name, self._config.rest_url + path)

    def _fetch(self, now: Micros) -> Fetch:
        self._asked_at = now
        path = f"/api/v3/depth?symbol={self._name}&limit={self._config.snapshot_limit}"
        return Fetch(f"snapshot:{self._name}", "depth", self._name, self._config.rest_url + path)

    def _spoilt(self, reason: Reason, now: Micros, why: str, lost: int | None = None) -> Iterator[Output]:
        self._sync.forget()
        self._counts["gaps"] += 1
        return self.live.spoilt("gap", reason, now, why, lost)


# The venue's messages


class Depth(msgspec.Struct, gc=False):
    """`{"e":"depthUpdate","E":…,"s":"BTCUSDT","U":…,"u":…,"b":[["78712.76","0.00"]],"a":[…]}`: sizes are absolute."""

    E: int
    s: str
    U: int
    u: int
    b: list[WireLevel]
    a: list[WireLevel]


class TradeEvent(msgspec.Struct, gc=False):
    """`trade` (id t) or `aggTrade` (id a); m: the buyer was the maker. T in milliseconds."""

    s: str
    p: Price
    q: TradeSize
    T: int
    m: bool
    t: int = 0
    a: int = 0


class BookTicker(msgspec.Struct, gc=False):
    """`{"u":…,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}`: no event time on spot."""

    u: int
    s: str
    b: LevelSize  # 0 when the side is empty
    B: LevelSize
    a: LevelSize
    A: LevelSize


class DepthFrame(msgspec.Struct, gc=False):
    data: Depth


class TradeFrame(msgspec.Struct, gc=False):
    data: TradeEvent


class TickerFrame(msgspec.Struct, gc=False):
    data: BookTicker


class Other(msgspec.Struct, gc=False):
    """Whatever else it is: told apart by which fields there are."""

    stream: str | None = None
    e: str = ""
    u: int | None = None
    id: int | None = None
    code: int | None = None
    msg: str = ""


class Snapshot(msgspec.Struct, gc=False):
    lastUpdateId: int  # noqa: N815
    bids: list[WireLevel]
    asks: list[WireLevel]


class Filter(msgspec.Struct):
    filterType: str  # noqa: N815
    tickSize: float = 0.0  # noqa: N815
    stepSize: float = 0.0  # noqa: N815
    minQty: float = 0.0  # noqa: N815
    maxQty: float = 0.0  # noqa: N815
    minNotional: float = 0.0  # noqa: N815


class Symbol(msgspec.Struct):
    symbol: str
    status: str
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    filters: list[Filter] = []


class ExchangeInfo(msgspec.Struct):
    symbols: list[Symbol]


_depth_frame = msgspec.json.Decoder(DepthFrame, strict=False)
_trade_frame = msgspec.json.Decoder(TradeFrame, strict=False)
_ticker_frame = msgspec.json.Decoder(TickerFrame, strict=False)
_depth = msgspec.json.Decoder(Depth, strict=False)
_trade = msgspec.json.Decoder(TradeEvent, strict=False)
_ticker = msgspec.json.Decoder(BookTicker, strict=False)
_other = msgspec.json.Decoder(Other)
_snapshot = msgspec.json.Decoder(Snapshot, strict=False)
_listing = msgspec.json.Decoder(ExchangeInfo, strict=False)


def parse_listing(body: bytes, config: VenueConfig, assets: Assets, now: Micros) -> list[Listed]:
    """`GET /api/v3/exchangeInfo`; a filter value of 0 means that there is no such limit."""
    found = []
    for symbol in _listing.decode(body).symbols:
        filters = {entry.filterType: entry for entry in symbol.filters}
        price = filters.get("PRICE_FILTER", Filter("PRICE_FILTER"))
        lot = filters.get("LOT_SIZE", Filter("LOT_SIZE"))
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or Filter("NOTIONAL")
        found.append(
            listed_instrument(
                "binance",
                symbol.symbol,
                symbol.baseAsset,
                symbol.quoteAsset,
                config,
                assets,
                now,
                status="trading" if symbol.status == "TRADING" else "halted",
                price_increment=price.tickSize,
                size_increment=lot.stepSize,
                min_size=lot.minQty,
                max_size=lot.maxQty,
                min_notional=notional.minNotional,
            )
        )
    return [entry for entry in found if entry is not None]


def streams(frame: bytes) -> list[Stream]:
    """What a recorded frame belongs to."""
    head = frame[:96]
    if b"@depth" in head or b'"depthUpdate"' in head:
        event = _depth_frame.decode(frame).data if b"@depth" in head else _depth.decode(frame)
        return [Stream("book", event.s)]
    if b"@bookTicker" in head:
        return [Stream("top", _ticker_frame.decode(frame).data.s)]
    if b"@aggTrade" in head:
        return [Stream("aggTrade", _trade_frame.decode(frame).data.s)]
    if b"@trade" in head:
        return [Stream("trade", _trade_frame.decode(frame).data.s)]
    return []


VENUE = Venue(
    id="binance",
    documents="https://developers.binance.com/docs/binance-spot-api-docs",
    listing_path="/api/v3/exchangeInfo?permissions=SPOT",
    parse_listing=parse_listing,
    feed=BinanceFeed,
    streams=streams,
    shard=100,
    lifetime_s=24 * 3600,
)
