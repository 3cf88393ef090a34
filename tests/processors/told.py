"""A spreads processor that a test tells what happens."""

from __future__ import annotations

from typing import Any

from cexdex.records.record import Record
from cexdex.records.spreads import Spread
from processors.spreads import Spreads
from tests.processors.market import T0, S, config

A, B = "kraken:BTC-USD", "coinbase:BTC-USD"


class Told:
    """A spreads processor, told one record after the other; offsets count up."""

    def __init__(self, *listings: Record, **overrides: Any) -> None:
        self.processor = Spreads("BTC-USD", config(**{"notionals_usd": [50], **overrides}))
        self.offset = 0
        self.now = T0 - 5 * S
        for listing in listings:
            self.tell(listing)

    def tell(self, record: Record, at: int | None = None) -> list[Any]:
        self.now = max(self.now, record.received_at if at is None else at)
        self.offset += 1
        return list(self.processor.on(record, self.offset, self.now))

    def pass_to(self, now: int) -> list[Any]:
        said: list[Any] = []
        point = self.now // 100_000 * 100_000 + 100_000
        for self.now in range(point, now + 1, 100_000):
            said += self.processor.on_time(self.now, self.offset)
        return said


def edge(said: list[Any], buy: str = A, sell: str = B) -> Spread:
    [found] = [spread for spread in said if spread.buy == buy and spread.sell == sell]
    assert isinstance(found, Spread)
    return found
