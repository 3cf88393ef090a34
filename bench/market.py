"""A market of several venues that moves as asked: its listings, its quotes and ladders."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from cexdex.records.book import Book
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.reference_quotes import ReferenceQuote

VENUES = ("aster", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "iris", "juniper")
QUOTE_ASSETS = ("USD", "USDT", "USDC")
PRICES = {"BTC": 65_000.0, "ETH": 3_400.0}
FEES_BPS = (10.0, 10.0, 25.0, 40.0, 60.0)
"""As venues have them: near the floor below which nothing is said are the edges between the two cheapest."""


class Venue:
    """One instrument of a market on one venue."""

    def __init__(self, base: str, number: int, session: int, fees: Sequence[float]) -> None:
        self.venue = VENUES[number]
        self.quote_asset = QUOTE_ASSETS[number % len(QUOTE_ASSETS)]
        self.fee_bps = fees[number % len(fees)]
        self.base = base
        self.market = f"{base}-USD"
        self.instrument = f"{self.venue}:{base}-{self.quote_asset}"
        self.session = session
        self.bid = self.ask = 0.0
        self._ordinal = self._books = -1

    def listing(self, at: int) -> Instrument:
        return Instrument(
            received_at=at,
            market=self.market,
            venue=self.venue,
            instrument=self.instrument,
            symbol=self.instrument,
            base_asset=self.base,
            quote_asset=self.quote_asset,
            taker_fee_bps=self.fee_bps,
            fee_source="bench",
            status="trading",
        )

    def quote(self, mid: float, at: int, random: Random) -> Quote:
        """A quote of a bp around `mid`."""
        self._ordinal += 1
        self.bid, self.ask = round(mid * 0.99995, 2), round(mid * 1.00005, 2)
        return Quote(
            received_at=at,
            event_time=at,
            market=self.market,
            venue=self.venue,
            instrument=self.instrument,
            base_asset=self.base,
            quote_asset=self.quote_asset,
            bid=self.bid,
            bid_size=round(random.uniform(0.01, 2), 4),
            ask=self.ask,
            ask_size=round(random.uniform(0.01, 2), 4),
            session=self.session,
            ordinal=self._ordinal,
            sequence=self._ordinal,
            source="top",
            changed_at=at,
            verified_at=at,
            state="live",
            reason=None,
        )

    def book(self, at: int, random: Random) -> Book:
        """A ladder of 140 entries a side under the last quote."""
        self._books += 1
        steps = [0.1 * k if k < 50 else 5 + (k - 50) for k in range(140)]
        return Book(
            received_at=at,
            event_time=at,
            market=self.market,
            instrument=self.instrument,
            bids=[(round(self.bid * (1 - s * 1e-4), 2), round(random.uniform(0.1, 3), 4)) for s in steps],
            asks=[(round(self.ask * (1 + s * 1e-4), 2), round(random.uniform(0.1, 3), 4)) for s in steps],
            exact_levels=(50, 50),
            reference_price=(self.bid + self.ask) / 2,
            bids_complete_to_bps=200.0,
            asks_complete_to_bps=200.0,
            session=self.session,
            ordinal=self._books,
            sequence=self._books,
            state="live",
            reason=None,
        )


class Market:
    """A market whose venues wander around one price, a few bps apart."""

    def __init__(
        self, base: str, venues: int, session: int, seed: int, fees: Sequence[float] = FEES_BPS
    ) -> None:
        self.venues = [Venue(base, number, session, fees) for number in range(venues)]
        self._random = Random(seed)
        self._mid = PRICES[base]

    def listings(self, at: int) -> list[Instrument]:
        return [venue.listing(at) for venue in self.venues]

    def next_quote(self, at: int) -> Quote:
        """The quote of some venue after the price has moved a little."""
        random = self._random
        self._mid *= 1 + random.gauss(0, 0.2e-4)
        return random.choice(self.venues).quote(self._mid * (1 + random.gauss(0, 1e-4)), at, random)

    def books(self, at: int) -> list[Book]:
        return [venue.book(at, self._random) for venue in self.venues]


def references(at: int, session: int) -> list[ReferenceQuote]:
    """What the rates of USDT and USDC are made of."""
    return [
        ReferenceQuote(
            received_at=at,
            event_time=at,
            market=f"{asset}-USD",
            venue="kraken",
            instrument=f"kraken:{asset}-USD",
            base_asset=asset,
            quote_asset="USD",
            bid=0.9999,
            ask=1.0001,
            taker_fee_bps=20.0,
            session=session,
            changed_at=at,
            verified_at=at,
            state="live",
            reason=None,
        )
        for asset in QUOTE_ASSETS[1:]
    ]
