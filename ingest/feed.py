"""The seam of a venue: a feed is one connection, pure, told what happened and when.

A venue is one file in `ingest/venues` that ends with `VENUE = Venue(...)`; nothing else names it. Its feed never awaits,
opens a socket or reads a clock: requests are values that the runner performs, so that a recording drives the same code
as the live socket.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal, Protocol
from urllib.parse import parse_qs, urlsplit

from msgspec import Meta

from cexdex.config import Venue as VenueConfig
from cexdex.domain.assets import Assets
from cexdex.records.instruments import Instrument
from cexdex.records.record import Micros, Record

TICK_US = 100_000
"""How often `on_time` is called, at multiples of it."""

Price = Annotated[float, Meta(gt=0, lt=1e15)]
"""A price as a venue sends it: NaN, infinity, zero and less are refused by the decoder, before anything is applied."""
LevelSize = Annotated[float, Meta(ge=0, lt=1e18)]
"""The size of a level; 0 removes it."""
TradeSize = Annotated[float, Meta(gt=0, lt=1e18)]


@dataclass(frozen=True, slots=True)
class Send:
    """A message for the venue."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """A request for the venue's REST side; its answer comes back through `fetched` under `tag`.

    kind and symbol say what is asked, so that a recording answers by them and never by URL.
    """

    tag: str
    kind: str
    symbol: str
    url: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """This connection is of no more use. A planned one is replaced before it is closed."""

    reason: str
    planned: bool = False


Output = Record | Send | Fetch | Reconnect


class RefusedFrameError(ValueError):
    """A frame that the venue's documents do not allow; it goes to dead_letters and the feed goes on."""


class Feed(Protocol):
    """One connection to a venue, for a fixed set of instruments, for one connection's life."""

    counts: Counter[str]
    """What was ignored, dropped or found wrong, by name."""

    def recall(self, own: Record) -> None:
        """Its last published trade of an instrument, before `connected`."""
        ...

    def connected(self, now: Micros) -> Iterator[Output]:
        """Subscribes; `now` names the session."""
        ...

    def receive(self, frame: bytes, now: Micros) -> Iterator[Output]: ...

    def fetched(self, tag: str, body: bytes, now: Micros) -> Iterator[Output]: ...

    def on_time(self, now: Micros) -> Iterator[Output]:
        """Each 100 ms: pings, watchdogs, ladders, probes; also after `lost`, until a successor is live."""
        ...

    def lost(self, reason: str, now: Micros) -> Iterator[Output]:
        """The connection is gone: empty quotes and books, and the status."""
        ...

    def live(self) -> set[str]:
        """The instruments whose quotes are live."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """An instrument as the venue lists it, with the digits its prices and sizes are printed with."""

    instrument: Instrument
    price_digits: int | None = None
    size_digits: int | None = None


@dataclass(frozen=True, slots=True)
class Channels:
    """What a feed subscribes to; a replay reads it off the recording's frames."""

    top_of_book: bool
    trades: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What a frame of a recording belongs to."""

    channel: Literal["book", "top", "trade", "aggTrade"]
    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """Everything that is known of a venue before a socket is opened."""

    id: str
    documents: str
    """Where the venue's own documents are."""
    listing_path: str
    """Path of the listing under the REST URL."""
    parse_listing: Callable[[bytes, VenueConfig, Assets, Micros], list[Listed]]
    feed: Callable[[Sequence[Listed], VenueConfig, Assets, Channels], Feed]
    streams: Callable[[bytes], list[Stream]]
    """What a recorded frame belongs to; [] for anything but market data."""
    shard: int
    """Instruments on one connection at the most."""
    lifetime_s: int | None = None
    """After so long the venue closes a connection; it is replaced before."""
    verified: str = "live"
    """`live` when its frames were seen live, else how its code was checked."""
    notes: tuple[str, ...] = field(default=())


@cache
def venues() -> dict[str, Venue]:
    """Every venue by its id, found by importing each module of `ingest.venues`."""
    import ingest.venues

    found: dict[str, Venue] = {}
    for module in pkgutil.iter_modules(ingest.venues.__path__):
        venue: Venue = importlib.import_module(f"ingest.venues.{module.name}").VENUE
        if venue.id in found:
            raise ValueError(f"two modules call themselves {venue.id}")
        found[venue.id] = venue
    return dict(sorted(found.items()))


def asked(url: str) -> tuple[str, str]:
    """Kind and symbol of a recorded request: the last part of its path, and the symbol in its query."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    symbol = next((query[key][0] for key in ("symbol", "product_id", "pair") if key in query), "")
    return parts.path.rstrip("/").rsplit("/", 1)[-1], symbol
