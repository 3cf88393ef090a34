"""A venue without sockets or wall clock: the market is stepped by the test, and frames are read off the connection."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from simulator.binance import Binance
from simulator.coinbase import Coinbase
from simulator.faults import Fault, check
from simulator.kraken import Kraken
from simulator.market import Market
from simulator.server import Venues
from simulator.truth import Truth
from simulator.wire import Close, Connection, Text

STARTED_AT = 1_790_000_000_000_000


class Stage:
    """One venue, told about the market by the test."""

    def __init__(self, name: str, seed: int = 7, rate: float = 300.0, spreads: bool = True) -> None:
        self.market = Market(seed, rate, STARTED_AT, spreads)
        self.all = Venues(
            self.market,
            [Binance(self.market), Coinbase(self.market), Kraken(self.market)],
            Truth(None, self.market),
            [],
        )
        self.venue = self.all.venues[name]

    def connect(self, path: str, **query: str) -> Connection:
        connection = Connection()
        assert self.venue.opened(connection, path, query, self.market.now) == 101
        return connection

    def say(self, connection: Connection, **request: object) -> None:
        self.venue.received(connection, json.dumps(request), self.market.now)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 200)):
            self.all.step()

    def fault(self, kind: str, instrument: str | None = None, seconds: float | None = None) -> None:
        check(Fault(self.venue.name, kind, instrument, seconds))
        self.all.fault(self.venue.name, kind, instrument, seconds)

    def get(self, path: str, **query: str) -> Any:
        answer = self.venue.get(path, query, self.market.now)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def book(self, instrument: str) -> tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]:
        """The simulator's own book, as decimals."""
        quoting = self.market.quoting[instrument]
        listing, book = quoting.listing, quoting.book
        bids, asks = (
            {
                Decimal(price).scaleb(-listing.price_decimals): Decimal(size).scaleb(-listing.size_decimals)
                for price, size in side.sizes.items()
            }
            for side in (book.bids, book.asks)
        )
        return bids, asks


def texts(connection: Connection) -> list[str]:
    """What the client has received since it last looked."""
    received = [item.data.decode() for item in connection.waiting if isinstance(item, Text)]
    closes = [item for item in connection.waiting if isinstance(item, Close)]
    connection.waiting.clear()
    connection.waiting.extend(closes)
    return received


def exact(text: str) -> Any:
    """JSON with its numbers as they stand in the text, trailing zeros kept."""
    return json.loads(text, parse_float=Decimal)


@pytest.fixture
def stage() -> Callable[..., Stage]:
    return Stage


@pytest.fixture
def received() -> Callable[[Connection], list[Any]]:
    return lambda connection: [exact(text) for text in texts(connection)]


@pytest.fixture
def closed() -> Callable[[Connection], int | None]:
    """The code with which the venue closes the connection, if it does."""
    return lambda connection: next(
        (item.code for item in connection.waiting if isinstance(item, Close)), None
    )
