"""Kraken spot, WebSocket v2: https://docs.kraken.com/api/docs/websocket-v2/book

Snapshots come in band and every message carries a CRC-32 of the best ten levels of both sides, checked after the whole
message is applied and each side is truncated to the subscribed depth. Below the tenth level nothing is verified, so
each symbol is subscribed anew every ten minutes; so is one that failed, or that has been quiet too long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Literal
from zlib import crc32

import msgspec

from cexdex.config import Venue as VenueConfig
from cexdex.domain.assets import Assets
from cexdex.domain.book import OrderBook
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from ingest.feed import (
    Channels,
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
from ingest.trades import TradeLog

SILENCE_US = 5_000_000
"""A heartbeat comes each second when nothing else does: a socket silent for so long is dead."""
ACK_WITHIN_US = 10_000_000
RENEW_US = 600_000_000
RESYNC_EVERY_US = 1_000_000
MISSING_US = 15_000_000
"""A symbol whose snapshot has not come after so long is subscribed anew."""
DEPTHS = (10, 25, 100, 500, 1000)
CHECKED_LEVELS = 10
MISMATCHES_IN_A_ROW = 3
EXACT_BELOW = 2**53


class KrakenFeed:
    """book and trade of some symbols on one socket."""

    def __init__(
        self, listed: Sequence[Listed], config: VenueConfig, assets: Assets, channels: Channels
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._symbols = {
            entry.instrument.symbol: _Symbol(entry, config, assets, self.counts) for entry in listed
        }
        self._depth = config.depth
        self._heard_at = 0
        self._requests = 0
        self._unacknowledged: dict[tuple[str, str], Micros] = {}
        self._acknowledged = False
        self._closed = False
        self._halted: VenueStatus | None = None

    def recall(self, own: Record) -> None:
        if isinstance(own, Trade):
            for symbol in self._symbols.values():
                if symbol.live.instrument.instrument == own.instrument:
                    symbol.trades.recall(own)

    def connected(self, now: Micros) -> Iterator[Output]:
        self._heard_at = now
        for symbol in self._symbols.values():
            symbol.live.start(now)
            symbol.connected_at = now
        names = list(self._symbols)
        yield self._ask("subscribe", names, now, channel="book", depth=self._depth, snapshot=True)
        yield self._ask("subscribe", names, now, channel="trade", snapshot=True)

    def receive(self, frame: bytes, now: Micros) -> Iterator[Output]:
        self._heard_at = now
        if frame.startswith(b'{"channel":"book"'):
            try:
                message = _book.decode(frame)
            except msgspec.DecodeError as error:
                return self._unreadable(frame, error, now)
            return self._books(message, now)
        return self._other(frame, now)

    def fetched(self, tag: str, body: bytes, now: Micros) -> Iterator[Output]:
        return iter(())

    def on_time(self, now: Micros) -> Iterator[Output]:
        for name, symbol in self._symbols.items():
            yield from symbol.live.on_time(now)
            if not self._closed and symbol.due(now):
                yield from self._resubscribe(name, now)
        if self._closed:
            return
        if now - self._heard_at > SILENCE_US:
            self._heard_at = now
            yield Reconnect(f"silent for {SILENCE_US // 1_000_000} s")
        due = [asked for asked, sent in self._unacknowledged.items() if now - sent > ACK_WITHIN_US]
        if due:
            self._unacknowledged.clear()
            # a recording may begin after the answers: what flows was subscribed
            if self._acknowledged or not all(symbol.live.whole for symbol in self._symbols.values()):
                yield Reconnect(
                    f"{' of '.join(due[0])} was not acknowledged within {ACK_WITHIN_US // 1_000_000} s"
                )

    def lost(self, reason: str, now: Micros) -> Iterator[Output]:
        self._closed = True
        for symbol in self._symbols.values():
            yield from symbol.live.fail("ended" if reason == "ended" else "disconnected", now, "stale")

    def live(self) -> set[str]:
        return {symbol.live.instrument.instrument for symbol in self._symbols.values() if symbol.live.is_live}

    def _books(self, message: BookMessage, now: Micros) -> Iterator[Output]:
        unknown = None
        for data in message.data:
            symbol = self._symbols.get(data.symbol)
            if symbol is None:
                unknown = data.symbol
            elif symbol.halted:
                self.counts["while_halted"] += 1
            else:
                outputs = (
                    symbol.snapshot(data, now) if message.type == "snapshot" else symbol.update(data, now)
                )
                yield from self._resynced(data.symbol, outputs, now)
        if unknown is not None:
            raise RefusedFrameError(f"no subscription to symbol {unknown!r}")

    def _resynced(self, name: str, outputs: Iterable[Output | _Resync], now: Micros) -> Iterator[Output]:
        for output in outputs:
            if isinstance(output, _Resync):
                self._symbols[name].spoilt = True
                if now - self._symbols[name].asked_at >= RESYNC_EVERY_US:
                    yield from self._resubscribe(name, now)
            else:
                yield output

    def _unreadable(self, frame: bytes, error: Exception, now: Micros) -> Iterator[Output]:
        """What the frame would have changed is unknown, and below the tenth level no checksum would tell."""
        try:
            named = {data.symbol for data in _named.decode(frame).data} & self._symbols.keys()
        except msgspec.DecodeError:
            named = set(self._symbols)
        for name in sorted(named):
            yield from self._resynced(name, self._symbols[name].unreadable(now), now)
        raise error

    def _trades(self, message: TradeMessage, now: Micros) -> Iterator[Output]:
        for trade in sorted(message.data, key=lambda entry: entry.trade_id):
            yield from self._of(trade.symbol).trades.trade(
                trade.trade_id,
                trade.price,
                trade.qty,
                trade.side,  # the taker's
                micros(trade.timestamp),
                now,
                snapshot=message.type == "snapshot",
            )

    def _other(self, frame: bytes, now: Micros) -> Iterator[Output]:
        other = _other.decode(frame)
        if other.channel == "trade":
            yield from self._trades(_trade.decode(frame), now)
        elif other.channel == "book":
            yield from self._books(_book.decode(frame), now)
        elif other.channel == "status":
            for system in _status.decode(frame).data:
                yield from self._system(system.system, now)
        elif other.method in ("subscribe", "unsubscribe"):
            if other.success is False and other.method == "subscribe":
                yield Reconnect(f"Kraken refused a subscription: {other.error[:200]!r}")
            elif other.result is not None and other.method == "subscribe":
                # one answer for each symbol: count them, 25 asked and 15 answered has been seen
                if other.result.depth is not None and other.result.symbol in self._symbols:
                    self._symbols[other.result.symbol].depth = other.result.depth
                self._acknowledged = True
                self._unacknowledged.pop((other.result.channel, other.result.symbol), None)
        elif other.channel not in ("heartbeat",) and other.method != "pong":
            self.counts["ignored"] += 1

    def _system(self, system: str, now: Micros) -> Iterator[Output]:
        if system == "online":
            if self._halted is not None:
                yield msgspec.structs.replace(self._halted, ended_at=now)
                self._halted = None
            for name, symbol in self._symbols.items():
                if symbol.halted:
                    symbol.halted = False
                    yield from self._resubscribe(name, now)
            return
        for symbol in self._symbols.values():
            if not symbol.halted:
                symbol.halted = True
                yield from symbol.live.fail("halted", now, "halted")
        if self._halted is None:
            self._halted = VenueStatus(
                venue="kraken",
                kind="halted",
                started_at=now,
                received_at=now,
                reason=f"system is {system[:40]}",
            )
            yield self._halted

    def _resubscribe(self, name: str, now: Micros) -> Iterator[Output]:
        """A new snapshot on the same socket; the old book stands until it has come."""
        self._symbols[name].asked_at = now
        self._symbols[name].spoilt = False
        yield self._ask("unsubscribe", [name], now, channel="book", depth=self._depth)
        yield self._ask("subscribe", [name], now, channel="book", depth=self._depth, snapshot=True)

    def _ask(self, method: str, names: list[str], now: Micros, **params: object) -> Send:
        self._requests += 1
        if method == "subscribe":
            for name in names:
                self._unacknowledged[str(params["channel"]), name] = now
        request = {"method": method, "params": {**params, "symbol": names}, "req_id": self._requests}
        return Send(msgspec.json.encode(request))

    def _of(self, name: str) -> _Symbol:
        try:
            return self._symbols[name]
        except KeyError:
            raise RefusedFrameError(f"no subscription to symbol {name!r}") from None


class _Resync:
    """This symbol has to be subscribed anew."""


class _Symbol:
    """One symbol's book and its checksum."""

    def __init__(self, entry: Listed, config: VenueConfig, assets: Assets, counts: Counter[str]) -> None:
        self.live = LiveBook(
            entry.instrument,
            assets,
            counts,
            verified_within_us=int(config.verified_within_s * 1e6),
            top_of_book=False,
        )
        self.trades = TradeLog(entry.instrument, counts)
        self.depth: int | None = None
        self.asked_at = self.connected_at = 0
        self.halted = False
        self.spoilt = False
        self._counts = counts
        self._snapshot_at = 0
        self._full = (False, False)
        self._mismatches = 0
        self._raw = OrderBook()
        digits = entry.price_digits, entry.size_digits
        self._scale = None if None in digits else (10.0 ** (digits[0] or 0), 10.0 ** (digits[1] or 0))
        self._text: dict[float, str] = {}

    def snapshot(self, data: BookData, now: Micros) -> Iterator[Output | _Resync]:
        bids, asks = data.levels()
        if self.depth is None:  # a recording may have no answer that names it
            self.depth = next((depth for depth in DEPTHS if depth >= max(len(bids), len(asks))), DEPTHS[-1])
        depth = self.depth
        self._text.clear()
        self._raw = OrderBook(bids, asks)
        self._full = (len(bids) >= depth, len(asks) >= depth)
        self._remember(bids)
        self._remember(asks)
        self._snapshot_at = now
        if not self._checks(data.checksum):
            yield from self._failed(now)
            return
        book = self._raw
        if self.live.instrument.inverted:
            book = OrderBook(inverted_levels(asks), inverted_levels(bids))
        yield from self.live.snapshot(book, self._known(), now, event_time=data.at())

    def update(self, data: BookData, now: Micros) -> Iterator[Output | _Resync]:
        if not self.live.whole:
            self._counts["update_before_snapshot"] += 1
            return
        # 1. apply all levels of the message; 2. truncate each side to the depth; 3. check the checksum
        bids, asks = data.levels()
        raw, depth = self._raw, self.depth or DEPTHS[-1]
        self._counts["orphan_deletes"] += raw.bids.apply(bids) + raw.asks.apply(asks)
        self._full = (
            self._full[0] or len(raw.bids.keys) > depth,
            self._full[1] or len(raw.asks.keys) > depth,
        )
        raw.bids.truncate(depth)
        raw.asks.truncate(depth)
        self._remember(bids)
        self._remember(asks)
        if not self._checks(data.checksum):
            yield from self._failed(now)
            return
        live = self.live
        if live.instrument.inverted:
            live.book = OrderBook(inverted_levels(raw.asks.top(depth)), inverted_levels(raw.bids.top(depth)))
        live.known(*self._known())
        yield from live.updated(now, event_time=data.at())
        if live.crossed_too_long:
            yield from live.spoilt("gap", "crossed", now, "the book stayed crossed with itself")
            yield _Resync()

    def unreadable(self, now: Micros) -> Iterator[Output | _Resync]:
        if self.live.whole:
            yield from self.live.spoilt("gap", "gap", now, "a message of the book could not be read")
            yield _Resync()

    def due(self, now: Micros) -> bool:
        """Whether it is to be subscribed anew: spoilt, ten minutes old, or quiet for half the limit."""
        if self.spoilt and not self.halted:
            return now - self.asked_at >= RESYNC_EVERY_US
        if self.halted:
            return False
        if not self.live.whole:  # acknowledged, and yet no snapshot
            return now - max(self.asked_at, self.connected_at) > MISSING_US
        asked = max(self.asked_at, self._snapshot_at)
        return now - asked > RENEW_US or (self.live.needs_proof(now) and now - asked > 2_000_000)

    def _known(self) -> tuple[float, float]:
        """The venue keeps a window of `depth` levels: the worst of a full side is how far it reaches."""
        low = self._raw.bids.worst if self._full[0] else None
        high = self._raw.asks.worst if self._full[1] else None
        if self.live.instrument.inverted:
            return (1 / high if high else 0.0, 1 / low if low else inf)
        return (low or 0.0, high or inf)

    def _remember(self, levels: list[tuple[float, float]]) -> None:
        """The text of a level as it enters the checksum: both numbers as integers of their smallest unit."""
        if self._scale is None:
            return
        price_scale, size_scale = self._scale
        text = self._text
        for price, size in levels:
            if size:
                scaled_price, scaled_size = price * price_scale, size * size_scale
                if scaled_price < EXACT_BELOW and scaled_size < EXACT_BELOW:
                    text[price] = f"{round(scaled_price)}{round(scaled_size)}"
                else:
                    text[price] = ""
        if len(text) > 20_000:
            held = self._raw.bids.sizes.keys() | self._raw.asks.sizes.keys()
            self._text = {price: token for price, token in text.items() if price in held}

    def _checks(self, checksum: int) -> bool:
        if self._scale is None:
            self._counts["unverifiable"] += 1
            return True
        text = self._text
        tokens = [text[-key] for key in self._raw.asks.keys[: -CHECKED_LEVELS - 1 : -1]]
        tokens += [text[key] for key in self._raw.bids.keys[: -CHECKED_LEVELS - 1 : -1]]
        if "" in tokens:
            self._counts["unverifiable"] += 1
            return True
        good = crc32("".join(tokens).encode()) == checksum
        if good:
            self._counts["checksums_right"] += 1
            self._mismatches = 0
        return good

    def _failed(self, now: Micros) -> Iterator[Output | _Resync]:
        self._counts["checksums_wrong"] += 1
        self._mismatches += 1
        yield from self.live.spoilt(
            "checksum_failed", "checksum", now, "the CRC-32 of the best ten levels is not ours"
        )
        if self._mismatches >= MISMATCHES_IN_A_ROW:
            yield Reconnect(f"{self.live.instrument.symbol}: {self._mismatches} wrong checksums in a row")
        else:
            yield _Resync()


def micros(at: datetime | None) -> Micros | None:
    """RFC 3339 to microseconds; the epoch itself stands for no time."""
    return None if at is None else round(at.timestamp() * 1e6) or None


# The venue's messages


class WireLevel(msgspec.Struct, gc=False):
    price: Price
    qty: LevelSize


class BookData(msgspec.Struct, gc=False):
    """`{"symbol":"BTC/USD","bids":[{"price":78857.0,"qty":0.34775324}],"asks":[],"checksum":…,"timestamp":"…"}`"""

    symbol: str
    bids: list[WireLevel]
    asks: list[WireLevel]
    checksum: int
    timestamp: datetime | None = None  # older servers sent none with a snapshot

    def levels(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        return [(lv.price, lv.qty) for lv in self.bids], [(lv.price, lv.qty) for lv in self.asks]

    def at(self) -> Micros | None:
        return micros(self.timestamp)


class BookMessage(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    data: list[BookData]


class TradeData(msgspec.Struct, gc=False):
    """side is the taker's; trade_id counts each book's trades."""

    symbol: str
    side: Literal["buy", "sell"]
    price: Price
    qty: TradeSize
    trade_id: int
    timestamp: datetime


class TradeMessage(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    data: list[TradeData]


class System(msgspec.Struct, gc=False):
    system: str


class Named(msgspec.Struct, gc=False):
    symbol: str


class NamedMessage(msgspec.Struct, gc=False):
    data: list[Named]


class StatusMessage(msgspec.Struct, gc=False):
    data: list[System]


class Subscribed(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int | None = None


class Other(msgspec.Struct, gc=False):
    channel: str = ""
    method: str = ""
    success: bool | None = None
    error: str = ""
    req_id: int | None = None
    result: Subscribed | None = None


class Pair(msgspec.Struct):
    wsname: str = ""
    pair_decimals: int = 0
    lot_decimals: int = 0
    tick_size: float | None = None
    ordermin: float | None = None
    costmin: float | None = None
    status: str = "online"


class AssetPairs(msgspec.Struct):
    result: dict[str, Pair]


_book = msgspec.json.Decoder(BookMessage)
_trade = msgspec.json.Decoder(TradeMessage)
_named = msgspec.json.Decoder(NamedMessage)
_status = msgspec.json.Decoder(StatusMessage)
_other = msgspec.json.Decoder(Other)
_pairs = msgspec.json.Decoder(AssetPairs, strict=False)


def parse_listing(body: bytes, config: VenueConfig, assets: Assets, now: Micros) -> list[Listed]:
    """`GET /0/public/AssetPairs`. wsname has the names of v1 (XBT, XDG); v2 uses those everybody else does."""
    found = []
    for pair in _pairs.decode(body).result.values():
        if "/" not in pair.wsname:
            continue  # dark pools have no stream
        base, quote = (assets.named("kraken", code) for code in pair.wsname.split("/", 1))
        found.append(
            listed_instrument(
                "kraken",
                f"{base}/{quote}",
                base,
                quote,
                config,
                assets,
                now,
                status="trading" if pair.status == "online" else "halted",
                price_increment=pair.tick_size or 10.0**-pair.pair_decimals,
                size_increment=10.0**-pair.lot_decimals,
                min_size=pair.ordermin,
                min_notional=pair.costmin,
                price_digits=pair.pair_decimals,
                size_digits=pair.lot_decimals,
            )
        )
    return [entry for entry in found if entry is not None]


def streams(frame: bytes) -> list[Stream]:
    """What a recorded frame belongs to."""
    other = _other.decode(frame)
    if other.channel == "book":
        return [Stream("book", data.symbol) for data in _book.decode(frame).data]
    if other.channel == "trade":
        return [Stream("trade", data.symbol) for data in _trade.decode(frame).data]
    return []


VENUE = Venue(
    id="kraken",
    documents="https://docs.kraken.com/api/docs/guides/spot-ws-intro",
    listing_path="/0/public/AssetPairs",
    parse_listing=parse_listing,
    feed=KrakenFeed,
    streams=streams,
    shard=20,
)
