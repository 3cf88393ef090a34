"""Recordings: frames as the world sent them, and the feeds played from them.

A recording is a folder with `frames.jsonl.gz` (or, small ones, `frames.jsonl`) and `recording.json`. One JSON object a line, in the order of arrival: `t`
microseconds, `conn`, `dir` connect | send | recv | http, `url`, `data` the exact text. A recording is as it was made: it
may have no listing, no connect line, other hosts and other subscriptions than ours. So a request is answered by its kind
and symbol and never by its URL, and one that the recording cannot answer is counted.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import merge
from importlib.resources import files
from pathlib import Path

import msgspec

from cexdex.config import Config
from cexdex.domain.assets import Assets
from cexdex.records.instruments import Instrument
from cexdex.records.record import Micros, Record
from cexdex.records.trade import Trade
from ingest.deadletters import DeadLetters
from ingest.feed import TICK_US, Channels, Feed, Fetch, Listed, Output, Reconnect, Send, asked, venues

BEFORE_FIRST_US = 5_000_000
"""Listings are stamped so long before the first record."""
LONGEST_CATCH_UP_US = 10_000_000


class RecordingError(Exception):
    """A recording cannot be played; the message names it and what is wrong."""


class Line(msgspec.Struct, gc=False):
    t: int
    conn: str
    dir: str
    url: str = ""
    data: str = ""


_line = msgspec.json.Decoder(Line)


@dataclass(frozen=True)
class Recording:
    """A folder with a venue's frames; `shift_us` is added to every time in it."""

    path: Path
    venue: str
    shift_us: int = 0

    @classmethod
    def open(cls, path: Path) -> Recording:
        try:
            about = json.loads((path / "recording.json").read_text())
            venue = str(about["venue"])
        except (OSError, ValueError, KeyError) as error:
            raise RecordingError(f"{path} is not a recording: recording.json {error}") from None
        if venue not in venues():
            raise RecordingError(f"{path} is of {venue}, for which there is no venue file")
        return cls(path, venue)

    def lines(self) -> Iterator[Line]:
        """Every line, times shifted. RecordingError names the line that cannot be read."""
        name = self.path / "frames.jsonl"
        packed = self.path / "frames.jsonl.gz"
        try:
            with name.open("rb") if name.exists() else gzip.open(packed) as stream:
                for number, text in enumerate(stream, 1):
                    try:
                        line = _line.decode(text)
                    except msgspec.DecodeError as error:
                        raise RecordingError(f"{name} line {number}: {error}") from None
                    if self.shift_us:
                        line.t += self.shift_us
                    yield line
        except (OSError, EOFError) as error:
            raise RecordingError(f"{name}: {error}") from None

    def aligned(self, first_t: Micros) -> Recording:
        """This recording moved so that its first line is at `first_t`."""
        return replace(self, shift_us=first_t - self.first_t())

    def first_t(self) -> Micros:
        first = next(self.lines(), None)
        if first is None:
            raise RecordingError(f"{self.path} is empty")
        return first.t


@dataclass
class Contents:
    """What is in a recording: its instruments by connection, its channels, its listing, what its REST side answers."""

    listed: list[Listed]
    symbols: dict[str, set[str]]
    channels: Channels
    answers: Counter[tuple[str, str]]
    first_t: Micros


def look_into(
    recording: Recording, config: Config, assets: Assets, markets: set[str] | None = None
) -> Contents:
    """Reads a recording once, for what has to be known before it is played."""
    venue = venues()[recording.venue]
    listing_kind = asked(venue.listing_path)[0]
    symbols: defaultdict[str, set[str]] = defaultdict(set)
    channels: Counter[str] = Counter()
    answers: Counter[tuple[str, str]] = Counter()
    listing: bytes | None = None
    first_t: Micros | None = None
    for line in recording.lines():
        first_t = line.t if first_t is None else first_t
        if line.dir == "http":
            kind = asked(line.url)
            answers[kind] += 1
            if kind[0] == listing_kind and listing is None:
                listing = line.data.encode()
        elif line.dir == "recv":
            symbols[line.conn]  # a connection without market data is one all the same
            try:
                found = venue.streams(line.data.encode())
            except (msgspec.DecodeError, ValueError):
                continue  # it will be a dead letter when it is played
            for stream in found:
                symbols[line.conn].add(stream.symbol)
                channels[stream.channel] += 1
    if first_t is None:
        raise RecordingError(f"{recording.path} is empty")
    return Contents(
        listed=_listed(recording, listing, set().union(*symbols.values()), first_t, config, assets, markets),
        symbols=dict(symbols),
        channels=Channels(
            top_of_book=channels["top"] > 0, trades="aggTrade" if channels["aggTrade"] else "trade"
        ),
        answers=answers,
        first_t=first_t,
    )


def _listed(
    recording: Recording,
    listing: bytes | None,
    symbols: set[str],
    first_t: Micros,
    config: Config,
    assets: Assets,
    markets: set[str] | None,
) -> list[Listed]:
    venue = venues()[recording.venue]
    assumed = listing is None
    if listing is None:
        listing = files("ingest").joinpath("listings", f"{recording.venue}.json").read_bytes()
    at = first_t - BEFORE_FIRST_US
    entries = venue.parse_listing(listing, config.venues[recording.venue], assets, at)
    by_symbol = {entry.instrument.symbol: entry for entry in entries}
    unknown = symbols - by_symbol.keys()
    if unknown:
        raise RecordingError(
            f"{recording.path}: no listing for {', '.join(sorted(unknown))};"
            f" add it to ingest/listings/{recording.venue}.json"
        )
    chosen = [by_symbol[symbol] for symbol in sorted(symbols)]
    if assumed:
        chosen = [
            replace(entry, instrument=msgspec.structs.replace(entry.instrument, status="assumed"))
            for entry in chosen
        ]
    if markets is not None:
        chosen = [
            entry
            for entry in chosen
            if entry.instrument.market in markets
            or assets.is_rate_source(entry.instrument.base_asset, entry.instrument.quote_asset)
        ]
    return chosen


class Player:
    """One recording's feeds, told what its lines say."""

    def __init__(self, recording: Recording, contents: Contents, config: Config, assets: Assets) -> None:
        self.recording = recording
        self.counts: Counter[str] = Counter()
        self._contents = contents
        self._config = config.venues[recording.venue]
        self._assets = assets
        self._venue = venues()[recording.venue]
        self._feeds: dict[str, Feed] = {}
        self._letters: dict[str, DeadLetters] = {}
        self._pending: defaultdict[tuple[str, str], list[tuple[str, Fetch]]] = defaultdict(list)
        self._left = Counter(contents.answers)
        self._last_trades: dict[str, Trade] = {}
        self._followed = {entry.instrument.symbol for entry in contents.listed}

    def instruments(self) -> list[Instrument]:
        return [entry.instrument for entry in self._contents.listed]

    def line(self, line: Line) -> Iterator[Record]:
        """One line of the recording."""
        self.counts[f"lines_{line.dir}"] += 1
        if line.dir == "recv":
            if line.conn not in self._feeds:
                yield from self._connect(line.conn, line.t)
            feed = self._feeds[line.conn]
            if self._narrowed(line):
                return
            yield from self._done(
                line.conn, self._letters[line.conn].receive(feed, line.data.encode(), line.t), line.t
            )
        elif line.dir == "connect":
            if line.conn in self._feeds:
                yield from self._done(line.conn, self._feeds[line.conn].lost("disconnected", line.t), line.t)
            if self._contents.symbols.get(line.conn):
                yield from self._connect(line.conn, line.t)
        elif line.dir == "http":
            kind = asked(line.url)
            self._left[kind] -= 1
            for conn, fetch in self._pending.pop(kind, []):
                body = line.data.encode()
                yield from self._done(
                    conn, self._letters[conn].fetched(self._feeds[conn], fetch.tag, body, line.t), line.t
                )

    def on_time(self, now: Micros) -> Iterator[Record]:
        for conn, feed in list(self._feeds.items()):
            yield from self._done(conn, feed.on_time(now), now)

    def ended(self, now: Micros) -> Iterator[Record]:
        """The last line has been played."""
        for conn, feed in list(self._feeds.items()):
            yield from self._done(conn, feed.lost("ended", now), now)
            self.counts.update(feed.counts)
        self.counts["requests_unanswered"] += sum(map(len, self._pending.values()))
        self._pending.clear()

    def _connect(self, conn: str, now: Micros) -> Iterator[Record]:
        if conn in self._feeds:
            self.counts.update(self._feeds[conn].counts)
        symbols = self._contents.symbols[conn]
        listed = [entry for entry in self._contents.listed if entry.instrument.symbol in symbols]
        feed = self._venue.feed(listed, self._config, self._assets, self._contents.channels)
        self._feeds[conn] = feed
        self._letters[conn] = DeadLetters(self.recording.venue, conn, self.counts)
        for trade in self._last_trades.values():
            feed.recall(trade)
        yield from self._done(conn, feed.connected(now), now)

    def _done(self, conn: str, outputs: Iterable[Output], now: Micros) -> Iterator[Record]:
        again = False
        for output in outputs:
            if isinstance(output, Send):
                self.counts["sends"] += 1
            elif isinstance(output, Fetch):
                kind = (output.kind, output.symbol)
                if self._left[kind] > 0:
                    self._pending[kind].append((conn, output))
                else:
                    self.counts["requests_unanswered"] += 1
            elif isinstance(output, Reconnect):
                self.counts["reconnects"] += 1
                again = not output.planned
            else:
                if isinstance(output, Trade):
                    self._last_trades[output.instrument] = output
                if self.recording.shift_us and output.event_time is not None:
                    msgspec.structs.force_setattr(
                        output, "event_time", output.event_time + self.recording.shift_us
                    )
                yield output
        if again:
            yield from self._done(conn, self._feeds[conn].lost("disconnected", now), now)
            yield from self._connect(conn, now)

    def _narrowed(self, line: Line) -> bool:
        """Whether a frame is only of instruments that `--markets` left out."""
        if self._contents.symbols[line.conn] <= self._followed:
            return False
        found = self._venue.streams(line.data.encode())
        return bool(found) and all(stream.symbol not in self._followed for stream in found)


@dataclass(frozen=True, slots=True)
class Played:
    """What a line or a moment of a recording gave."""

    at: Micros
    records: list[Record]


def play(players: list[Player]) -> Iterator[Played]:
    """Recordings merged by time, recording and line; each 100 ms of their time every feed is told so.

    A recording ends with its own last line: from then on its feeds, which are lost, are told nothing.
    """
    listed = [instrument for player in players for instrument in player.instruments()]
    if listed:
        yield Played(min(i.received_at for i in listed), list(listed))
    now: Micros | None = None
    playing = dict(enumerate(players))
    streams = [_numbered(number, player.recording) for number, player in playing.items()]
    for t, number, _, line in merge(*streams, key=lambda entry: entry[:3]):
        for tick in ticks(now, t):
            records = [record for player in playing.values() for record in player.on_time(tick)]
            if records:
                yield Played(tick, records)
        now = t if now is None else max(now, t)
        if line is None:
            yield Played(now, list(playing.pop(number).ended(now)))
        else:
            yield Played(now, list(playing[number].line(line)))


def _numbered(number: int, recording: Recording) -> Iterator[tuple[Micros, int, int, Line | None]]:
    """Every line, and None at the last one's time: the recording's end."""
    last: tuple[Micros, int] | None = None
    for position, line in enumerate(recording.lines()):
        last = line.t, position
        yield line.t, number, position, line
    if last is not None:
        yield last[0], number, last[1] + 1, None


def ticks(before: Micros | None, now: Micros) -> Iterator[Micros]:
    """The multiples of 100 ms after `before` up to and with `now`; after a jump, those of the last 10 s only."""
    if before is None:
        return
    start = max(before, now - LONGEST_CATCH_UP_US) // TICK_US + 1
    for number in range(start, now // TICK_US + 1):
        yield number * TICK_US
