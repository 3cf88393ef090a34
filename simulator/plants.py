"""Planted spreads: one venue's price strays from the others by a known number of basis points for a known time."""

import random
from dataclasses import dataclass, field

from simulator.listings import LISTINGS, Listing

# What a desk pays to turn one dollar into another, along the rate's path: a stablecoin's taker fee and half-spread.
CONVERSION_BPS = 21.0


@dataclass(slots=True)
class Plant:
    market: str
    buy: Listing
    sell: Listing
    leader: Listing
    bps: float
    """Bid of `sell` over ask of `buy`, both in USD."""
    net_bps: float
    """The same after both taker fees and the conversion between different dollars."""
    factor: float
    """What the leader's price is multiplied by meanwhile."""
    starts_at: int
    ends_at: int
    taken: bool
    """Whether takers end it, or the leader's quotes are pulled."""
    started_at: int = 0
    size: float = 0.0
    observed: list[float] = field(default_factory=list)

    def truth(self, ended_at: int) -> dict[str, object]:
        observed = round(sum(self.observed) / len(self.observed), 2) if self.observed else None
        return {
            "kind": "spread",
            "market": self.market,
            "buy_instrument": self.buy.instrument,
            "sell_instrument": self.sell.instrument,
            "started_at": self.started_at,
            "ended_at": ended_at,
            "bps": round(self.bps, 2),
            "net_bps": round(self.net_bps, 2),
            "observed_bps": observed,
            "size": self.size,
            "leader": self.leader.venue,
            "leader_instrument": self.leader.instrument,
            "ended_by": "taken" if self.taken else "pulled",
        }


class Planner:
    """When the next spread of a market comes, and between whom."""

    def __init__(self, market: str, first_at: int, rng: random.Random) -> None:
        self.market = market
        self.next_at = first_at
        self._random = rng
        self._pairs = [
            (buy, sell)
            for buy in LISTINGS
            for sell in LISTINGS
            if buy.market == sell.market == market and buy.venue != sell.venue
        ]
        self._same_quote = [(buy, sell) for buy, sell in self._pairs if buy.quote == sell.quote]
        self._planned = 0

    def plan(self) -> Plant:
        rng = self._random
        # The first needs no conversion, so that it is there however the rates are sourced.
        same_quote = self._planned == 0 or rng.random() < 0.7
        buy, sell = rng.choice(self._same_quote if same_quote else self._pairs)
        net_bps = rng.uniform(30, 80)
        fees_bps = buy.taker_fee_bps + sell.taker_fee_bps + _conversion_bps(buy, sell)
        bps = net_bps + fees_bps
        leader = rng.choice((buy, sell))
        duration = int(rng.uniform(1.0, 6.0) * 1e6)
        plant = Plant(
            market=self.market,
            buy=buy,
            sell=sell,
            leader=leader,
            bps=bps,
            net_bps=net_bps,
            factor=_factor(bps, buy, sell, leader),
            starts_at=self.next_at,
            ends_at=self.next_at + duration,
            taken=rng.random() < 0.5,
        )
        self._planned += 1
        self.next_at += max(duration + 1_500_000, int(rng.uniform(5.0, 10.0) * 1e6))
        return plant


def _conversion_bps(buy: Listing, sell: Listing) -> float:
    if buy.quote == sell.quote:
        return 0.0
    return CONVERSION_BPS * sum(quote != "USD" for quote in (buy.quote, sell.quote))


def _factor(bps: float, buy: Listing, sell: Listing, leader: Listing) -> float:
    """From touch to touch: the half-spreads on both sides have to be crossed as well."""
    ask_over_mid = 1 + buy.half_spread_bps / 1e4
    bid_over_mid = 1 - sell.half_spread_bps / 1e4
    apart = (1 + bps / 1e4) * ask_over_mid / bid_over_mid
    return apart if leader is sell else 1 / apart
