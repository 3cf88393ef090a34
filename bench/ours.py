"""Our feeds over the frames of a case: `python -m bench.ours CASE [check | bare]`.

A feed is driven as its connection drives it: frames, the 100 ms points between them, requests answered. Each record it gives
is encoded as Kafka gets it. Prints the processor seconds; with `bare` the points, and with them the ladders, are left out;
with `check` the best bid and offer of each frame's quote are printed instead.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.cases import Case
from cexdex.config import Config, assets, load
from cexdex.records.quote import Quote
from cexdex.records.record import Record, encode
from ingest.deadletters import DeadLetters
from ingest.feed import TICK_US, Channels, Feed, Fetch, Listed, Output, venues
from ingest.recording import ticks

BEFORE_US = 5_000_000


class Drive:
    """A feed of the case's venue, and what it is told."""

    def __init__(self, case: Case, config: Config, listed: list[Listed]) -> None:
        venue = venues()[case.venue]
        self.feed: Feed = venue.feed(
            listed, config.venues[case.venue], assets(), Channels(top_of_book=False, trades="aggTrade")
        )
        self._letters = DeadLetters(case.venue, "bench", self.feed.counts)
        self._answers = dict(case.answers)
        self.touch: tuple[str, float | None, float | None] | None = None
        self.volume = 0

    def begin(self, now: int) -> None:
        self._take(self.feed.connected(now), now)

    def frame(self, frame: bytes, now: int) -> None:
        self._take(self._letters.receive(self.feed, frame, now), now)

    def point(self, now: int) -> None:
        self._take(self.feed.on_time(now), now)

    def _take(self, outputs: Iterable[Output], now: int) -> None:
        for output in outputs:
            if isinstance(output, Record):
                self.volume += len(encode(output))
                if type(output) is Quote:
                    self.touch = output.instrument, output.bid, output.ask
            elif isinstance(output, Fetch) and output.symbol in self._answers:
                body = self._answers.pop(output.symbol).encode()
                self._take(self._letters.fetched(self.feed, output.tag, body, now), now)


def once(case: Case, config: Config, listed: list[Listed], *, points: bool) -> float:
    drive = Drive(case, config, listed)
    frames = [(t, text.encode()) for t, text, _ in case.frames]
    told = frames[0][0]
    drive.begin(told)
    for t, frame in frames[: case.warm]:
        drive.frame(frame, t)
    start = time.process_time()
    for t, frame in frames[case.warm :]:
        if points and t // TICK_US != told // TICK_US:
            for tick in ticks(told, t):
                drive.point(tick)
            told = t
        drive.frame(frame, t)
    return time.process_time() - start


def check(case: Case, config: Config, listed: list[Listed]) -> dict[str, Any]:
    """The touch of each frame's quote, after which frame everything was live first, and what the feed counted."""
    drive = Drive(case, config, listed)
    drive.begin(case.frames[0][0])
    warm: int | None = None
    seen: list[tuple[int, str, float | None, float | None]] = []
    for number, (t, text, _) in enumerate(case.frames):
        drive.touch = None
        drive.frame(text.encode(), t)
        if drive.touch is not None:
            seen.append((number, *drive.touch))
        if warm is None and len(drive.feed.live()) == len(listed):
            warm = number + 1
    return {"warm": warm, "seen": seen, "counts": dict(drive.feed.counts)}


def listing(case: Case, config: Config) -> list[Listed]:
    venue = venues()[case.venue]
    body = files("ingest").joinpath("listings", f"{case.venue}.json").read_bytes()
    symbols = {name.replace("XBT", "BTC") for name in case.symbols.values()}
    entries = venue.parse_listing(body, config.venues[case.venue], assets(), case.frames[0][0] - BEFORE_US)
    return [entry for entry in entries if entry.instrument.symbol in symbols]


def main(arguments: list[str]) -> None:
    case, config = Case.read(Path(arguments[0])), load()
    listed = listing(case, config)
    gc.collect()
    gc.freeze()
    if arguments[1:] == ["check"]:
        print(json.dumps(check(case, config, listed)))
    else:
        points = arguments[1:] != ["bare"]
        print(sum(once(case, config, listed, points=points) for _ in range(case.passes)))


if __name__ == "__main__":
    main(sys.argv[1:])
