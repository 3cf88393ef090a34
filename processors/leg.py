"""One instrument as a side of a trade: its quote, its ladder, its rate, and whether they can be believed now."""

from __future__ import annotations

from cexdex.config import Config, assets
from cexdex.domain.fees import buy_factor, sell_factor
from cexdex.domain.ladder import LADDER_REACH_BPS, Ladder, Side, TouchedLadder
from cexdex.records.book import Book
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import RateState, Reason, Record

SILENT_US = 3_000_000
"""An instrument whose last quote is live and that gives none for so long may have lost its ingestor."""
FORGOTTEN_US = 60_000_000
"""Feeds say what is known at least each 10 s: what is older is as good as never said."""
RATE_SOURCE_LIMIT_US = 60_000_000
DEFAULT_LIMIT_US = 3_000_000
LAST_BUCKET_BPS = 5.0
NEVER = 1 << 62

_REASON_OF_STATE: dict[str, Reason] = {"syncing": "syncing", "stale": "stale_leg", "halted": "halted"}


Bought = tuple[float, float | None, float | None, Reason | None]
"""base, VWAP, USD paid per base with the fee; or why not."""


class Leg:
    """State of one listed instrument; `reason` is why nothing can be traded on it, None when something can."""

    __slots__ = (
        "_bids_asks",
        "_bought",
        "_depth",
        "_limit_us",
        "ask",
        "ask_usd",
        "base_factor",
        "bid",
        "bid_usd",
        "book",
        "buy_factor",
        "forgotten_after",
        "good_until",
        "instrument",
        "listing",
        "mid",
        "net_ask_usd",
        "net_bid_usd",
        "quote",
        "quote_asset",
        "rate",
        "rate_reason",
        "rate_record",
        "rate_state",
        "rate_verified_at",
        "reason",
        "sell_factor",
        "venue",
        "version",
    )

    def __init__(self, listing: Instrument, config: Config) -> None:
        self.quote: Quote | None = None
        self.book: Book | None = None
        self.reason: Reason | None = "stale_leg"
        self.good_until = NEVER
        self.forgotten_after = NEVER
        self.rate_record: Rate | None = None
        self.rate: float | None = None
        self.rate_state: RateState = "missing"
        self.rate_reason: Reason | None = "no_rate"
        self.rate_verified_at: int | None = None
        self.version = 0
        """Grows with each change of what a price is made of."""
        self._bids_asks: Ladder | None = None
        self._depth: TouchedLadder | None = None
        self._bought: dict[float, Bought] = {}
        self.instrument = listing.instrument
        self.venue = listing.venue
        self._limit_us = limit_us(listing, config)
        self.list(listing)

    def list(self, listing: Instrument) -> None:
        """Takes over fees, steps and limits."""
        self.listing = listing
        self.quote_asset = listing.quote_asset
        self.buy_factor = buy_factor(listing.taker_fee_bps, listing.fee_asset)
        self.sell_factor = sell_factor(listing.taker_fee_bps)
        if not self.rated(self.rate_record):
            self._price()

    def quoted(self, quote: Quote, now: int) -> bool:
        """Takes over a quote; whether anything but its age has changed."""
        last = None if now > self.good_until else self.quote
        self.quote = quote
        self.forgotten_after = quote.received_at + FORGOTTEN_US
        if quote.state == "live":
            self.good_until = min(quote.verified_at + self._limit_us, quote.received_at + SILENT_US)
            reason: Reason | None = None
        else:
            self.good_until = NEVER
            reason = quote.reason or _REASON_OF_STATE[quote.state]
        if (
            last is not None
            and reason == self.reason
            and quote.bid == last.bid
            and quote.ask == last.ask
            and quote.bid_size == last.bid_size
            and quote.ask_size == last.ask_size
            and quote.session == last.session
            and quote.reason == last.reason
        ):
            return False
        self.reason = reason
        self._price()
        return True

    def booked(self, book: Book) -> None:
        self.book = book
        self._bids_asks = None
        self._depth = None
        self._bought = {}
        self.version += 1

    def rated(self, rate: Rate | None) -> bool:
        """Takes over the rate of its quote asset; whether anything but its age has changed."""
        last = (self.rate, self.rate_state, self.conversion_bps) if self.version else None
        self.rate_record = rate
        self.rate_verified_at = None
        if self.quote_asset == "USD":
            self.rate, self.rate_state = 1.0, "live"
        elif rate is None:
            self.rate, self.rate_state = None, "missing"
        else:
            self.rate, self.rate_state = rate.rate, rate.state
            if rate.age_us is not None:
                self.rate_verified_at = rate.received_at - rate.age_us
        self.rate_reason = _rate_reason(self.rate, self.rate_state)
        if self.rate_reason == "no_rate":
            self.rate = None
        if last == (self.rate, self.rate_state, self.conversion_bps):
            return False
        self._price()
        return True

    def pass_time(self, now: int) -> bool:
        """Whether time alone has changed what is known: a live quote too old, or an old one forgotten."""
        if now > self.forgotten_after:
            self._forget()
            self._price()
            return True
        if now > self.good_until:
            self.good_until = NEVER
            self.reason = "stale_leg"
            return True
        return False

    def reason_at(self, now: int) -> Reason | None:
        return self.reason if now <= self.good_until else "stale_leg"

    def is_live(self, now: int) -> bool:
        """Whether it has two believable prices and a rate that is not in doubt."""
        return self.mid is not None and self.rate_reason is None and self.reason_at(now) is None

    @property
    def conversion_bps(self) -> float | None:
        """What turning its quote asset into USD costs."""
        if self.quote_asset == "USD":
            return 0.0
        return None if self.rate_record is None else self.rate_record.conversion_bps

    @property
    def mid_usd(self) -> float | None:
        return None if self.mid is None or self.rate is None else self.mid * self.rate

    def age_us(self, now: int) -> int | None:
        return None if self.quote is None else now - self.quote.verified_at

    def ladder_age_us(self, now: int) -> int | None:
        return None if self.book is None else now - self.book.received_at

    def rate_age_us(self, now: int) -> int | None:
        return None if self.rate_verified_at is None else now - self.rate_verified_at

    def depth(self) -> TouchedLadder | None:
        """Its ladder under its touch; None when there is none of the same session (DATA §3)."""
        if self._depth is None:
            self._depth = self._build()
        return self._depth

    def size_to(self, side: Side, price: float) -> float | None:
        """Base between the touch and `price`; None where the ladder is missing or not known so far."""
        depth, book = self.depth(), self.book
        if depth is None or book is None or book.reference_price is None:
            return None
        reach = book.asks_complete_to_bps if side == "buy" else book.bids_complete_to_bps
        if reach is None:
            return None
        if reach >= LADDER_REACH_BPS:
            # Cut there by the ladder itself, not by what is known: its last bucket goes on for a few bps.
            reach += LAST_BUCKET_BPS
        if side == "buy":
            return None if price > book.reference_price * (1 + reach * 1e-4) else depth.size_to(side, price)
        return None if price < book.reference_price * (1 - reach * 1e-4) else depth.size_to(side, price)

    def complete_to_bps(self, mid: float | None) -> tuple[float | None, float | None]:
        """How far from `mid` the bids and the asks are known."""
        book = self.book
        if mid is None or book is None or book.reference_price is None or self.depth() is None:
            return None, None
        bids, asks = book.bids_complete_to_bps, book.asks_complete_to_bps
        return (
            None if bids is None else 1e4 * (1 - book.reference_price * (1 - bids * 1e-4) / mid),
            None if asks is None else 1e4 * (book.reference_price * (1 + asks * 1e-4) / mid - 1),
        )

    def bought(self, notional_usd: float) -> Bought:
        """What buying a notional here costs, remembered until a price changes."""
        known = self._bought.get(notional_usd)
        if known is None:
            known = self._bought[notional_usd] = self._buy(notional_usd)
        return known

    def _buy(self, notional_usd: float) -> Bought:
        base = self.base_of(notional_usd)
        if base is None or self.rate is None:
            return (0.0, None, None, "no_liquidity")
        listing = self.listing
        if base < (listing.min_size or 0.0) or base * (self.ask or 0.0) < (listing.min_notional or 0.0):
            return (base, None, None, "below_minimum")
        depth = self.depth()
        if depth is None:
            return (base, None, None, "syncing")
        vwap = depth.vwap("buy", base)
        if isinstance(vwap, str):
            return (base, None, None, vwap)
        return (base, vwap, vwap * self.rate * self.buy_factor, None)

    def base_of(self, notional_usd: float) -> float | None:
        """How much base a notional is: once, at this leg's mid × rate."""
        return None if self.base_factor is None else notional_usd / self.base_factor

    def _build(self) -> TouchedLadder | None:
        quote, book = self.quote, self.book
        if quote is None or book is None or book.state != "live" or quote.state != "live":
            return None
        if book.session != quote.session:
            return None
        if self._bids_asks is None:
            self._bids_asks = Ladder(
                book.bids, book.asks, book.bids_complete_to_bps, book.asks_complete_to_bps
            )
        return self._bids_asks.under(quote.bid, quote.bid_size or 0.0, quote.ask, quote.ask_size or 0.0)

    def _forget(self) -> None:
        self.quote = None
        self.book = None
        self._bids_asks = None
        self.reason = "stale_leg"
        self.good_until = NEVER
        self.forgotten_after = NEVER

    def _price(self) -> None:
        """Everything that follows from touch, rate and fee, so that an edge is two divisions."""
        self.version += 1
        self._depth = None
        self._bought = {}
        quote, rate = self.quote, self.rate
        self.bid = None if quote is None else quote.bid or None
        self.ask = None if quote is None else quote.ask or None
        self.mid = None if self.bid is None or self.ask is None else (self.bid + self.ask) / 2
        self.bid_usd = self.ask_usd = self.net_bid_usd = self.net_ask_usd = self.base_factor = None
        if rate is None:
            return
        if self.bid is not None:
            self.bid_usd = self.bid * rate
            self.net_bid_usd = self.bid_usd * self.sell_factor
        if self.ask is not None:
            self.ask_usd = self.ask * rate
            self.net_ask_usd = self.ask_usd * self.buy_factor
        if self.mid is not None:
            self.base_factor = self.mid * rate


class Legs:
    """The listed instruments of a market, in the order of their names."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._legs: dict[str, Leg] = {}
        self._rates: dict[str, Rate] = {}

    def all(self) -> list[Leg]:
        return list(self._legs.values())

    def take(self, record: Record, now: int) -> bool:
        """Whether a record has changed anything but an age."""
        if isinstance(record, Quote):
            leg = self._legs.get(record.instrument)
            return leg is not None and leg.quoted(record, now)
        if isinstance(record, Book):
            leg = self._legs.get(record.instrument)
            if leg is not None:
                leg.booked(record)
            return leg is not None
        if isinstance(record, Rate):
            self._rates[record.asset] = record
            return True in [leg.rated(record) for leg in self.all() if leg.quote_asset == record.asset]
        if isinstance(record, Instrument):
            self._list(record)
        return True

    def pass_time(self, now: int) -> bool:
        return True in [leg.pass_time(now) for leg in self.all()]

    def _list(self, listing: Instrument) -> None:
        leg = self._legs.get(listing.instrument)
        if not is_leg(listing):
            self._legs.pop(listing.instrument, None)
        elif leg is not None:
            leg.list(listing)
        else:
            leg = Leg(listing, self._config)
            leg.rated(self._rates.get(leg.quote_asset))
            self._legs = dict(sorted([*self._legs.items(), (leg.instrument, leg)]))


def limit_us(listing: Instrument, config: Config) -> int:
    """How long a quote of this instrument is believed without proof that it is current."""
    if assets().is_rate_source(listing.base_asset, listing.quote_asset):
        return RATE_SOURCE_LIMIT_US
    venue = config.venues.get(listing.venue)
    return DEFAULT_LIMIT_US if venue is None else int(venue.verified_within_s * 1_000_000)


def is_leg(listing: Instrument) -> bool:
    """Whether an instrument is traded here: an alias is another one's book."""
    return listing.alias_of is None and listing.status in ("trading", "assumed")


def _rate_reason(rate: float | None, state: RateState) -> Reason | None:
    if rate is None or state in ("stale", "missing"):
        return "no_rate"
    return "depegged" if state == "depegged" else None
