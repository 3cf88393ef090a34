"""A made-up history of one market: several venues, quiet ones, dead ones, new sessions, trades, and what it causes."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from cexdex.config import Config
from cexdex.records.alerts import Alert
from cexdex.records.record import Record, encode
from cexdex.records.rules import Rule
from processors.worker import SECOND_US as S
from processors.worker import Partition, lookback_us
from tests.processors.market import T0, booked, config, listed, quoted, reference, traded

INSTRUMENTS = ("binance:BTC-USDT", "coinbase:BTC-USD", "kraken:BTC-USD", "kraken:BTC-USDT")
RULES = [
    {"rule": "touch", "enter_bps": 12, "clear_bps": 4, "for_s": 0},
    {"rule": "held", "enter_bps": 8, "clear_bps": 2, "for_s": 2.5, "basis": "gross"},
    {"rule": "sized", "enter_bps": 5, "clear_bps": -5, "for_s": 1, "notional_usd": 50},
]


@dataclass
class History:
    """Records of `market` in their order, and those of the small topics."""

    config: Config
    market: list[Record] = field(default_factory=list)
    small: list[tuple[str, int, Record]] = field(default_factory=list)


def history(seed: int, seconds: int = 190) -> History:
    random = Random(seed)
    made = History(config(notionals_usd=[50, 400], rules=RULES))
    for number, name in enumerate(INSTRUMENTS):
        fee = random.choice([0.0, 1.0, 5.0])
        fee_asset = random.choice(["quote", "base"])
        made.small.append(("instruments", number, listed(name, fee=fee, fee_asset=fee_asset, at=T0 - 5 * S)))
    made.small += [("rules", number, _rule(made.config, number)) for number in range(len(RULES))]
    made.small += [
        ("reference_quotes", number, quote) for number, quote in enumerate(_references(random, seconds))
    ]
    made.market = sorted(_events(random, seconds), key=lambda record: record.received_at)
    if random.random() < 0.5:
        at = T0 + random.randrange(seconds // 2, seconds) * S
        changed = listed(INSTRUMENTS[1], fee=2.0, status=random.choice(["trading", "halted"]), at=at)
        made.small.append(("instruments", len(INSTRUMENTS), changed))
    return made


def play(made: History, *, number: int = 0) -> list[list[Record]]:
    """What each record of `market` causes, in one go."""
    partition = Partition(number, 1, made.config)
    return _feed(partition, made, range(len(made.market)))


def play_after_restart(made: History, commit: int, before: list[list[Record]]) -> list[list[Record]]:
    """What each record from `commit` on causes in a worker that starts there; `before`: what was published, perhaps
    beyond the commit."""
    since = made.market[commit - 1].received_at - lookback_us(made.config) - S
    start = next(i for i, record in enumerate(made.market) if record.received_at >= since)
    published = [record for outputs in before for record in outputs]
    own = [r for r in published if isinstance(r, Alert) and r.source_offset < commit]
    partition = Partition(0, 1, made.config, aloud_from=commit, own=newest(own))
    said = _feed(partition, made, range(start, len(made.market)), since - 70 * S if start else 0)
    assert not any(said[: commit - start])
    return said[commit - start :]


def newest(own: list[Alert]) -> list[Alert]:
    """What compaction may leave: the last of each key."""
    return list({(alert.rule, alert.edge, alert.size): alert for alert in own}.values())


def text(said: list[list[Record]]) -> list[list[bytes]]:
    return [[encode(record) for record in outputs] for outputs in said]


def _feed(partition: Partition, made: History, offsets: range, since: int = 0) -> list[list[Record]]:
    for topic, offset, record in made.small:
        if topic != "reference_quotes" or record.received_at >= since:
            assert list(partition.known(record, topic, offset)) == []
    return [list(partition.on(made.market[offset], offset)) for offset in offsets]


def _rule(made: Config, number: int) -> Rule:
    rule = made.rules[number]
    return Rule(
        received_at=T0 - 5 * S,
        rule=rule.rule,
        markets=[],
        venues=[],
        notional_usd=rule.notional_usd,
        basis=rule.basis,
        converted=rule.converted,
        enter_bps=rule.enter_bps,
        clear_bps=rule.clear_bps,
        for_us=round(rule.for_s * S),
        enabled=True,
        effective_at=T0 - 5 * S,
    )


def _references(random: Random, seconds: int) -> list[Any]:
    gone = sorted(random.randrange(seconds) for _ in range(2)) if random.random() < 0.5 else [0, 0]
    quotes = []
    for second in range(-3, seconds):
        at = T0 + second * S
        if not gone[0] <= second < gone[1]:
            off = random.gauss(0, 1e-4)
            quotes.append(reference("kraken:USDT-USD", 0.9994 + off, 0.9996 + off, at))
        quotes.append(reference("coinbase:USDT-USD", 0.9993, 0.9997, at))
    return quotes


def _events(random: Random, seconds: int) -> list[Record]:
    events: list[Record] = []
    for name in INSTRUMENTS:
        at, end, session, mid = T0 + random.randrange(S), T0 + seconds * S, 1, 100.0
        ordinal = books = 0
        down_from = T0 + random.randrange(seconds) * S
        down_to = down_from + random.choice([0, 4, 15, 70]) * S
        while at < end:
            at += random.choice([1, 30_000, 400_000, 900_000])
            if down_from <= at < down_to:
                if random.random() < 0.5:
                    reason = random.choice(["gap", "disconnected"])
                    empty: dict[str, Any] = {"state": "syncing", "reason": reason}
                    events.append(quoted(name, None, None, at, ordinal + 1, session=session, **empty))
                at, session, ordinal, books = down_to, session + 1, 0, 0
                continue
            mid = min(101.0, max(99.0, mid * (1 + random.choice([0, 0, random.gauss(0, 8e-4)]))))
            bid, ask = round(mid - 0.01, 2), round(mid + 0.01, 2)
            size = random.choice([0.5, 1.0, 4.0])
            events.append(
                quoted(name, bid, ask, at, ordinal, session=session, bid_size=size, ask_size=size / 2)
            )
            ordinal += 1
            if random.random() < 0.3:
                bids = [(round(bid - 0.02 * i, 2), 1.0 + i) for i in range(6)]
                asks = [(round(ask + 0.02 * i, 2), 1.0 + i) for i in range(6)]
                events.append(booked(name, bids, asks, at, ordinal=books, session=session))
                books += 1
            if random.random() < 0.3:
                late = random.choice([0, 200_000, -400_000, 7_000_000])
                side = random.choice(["buy", "sell"])
                events.append(traded(name, f"{at}", mid, 0.1, at, event_time=at - late, taker_side=side))
                if random.random() < 0.2:
                    events.append(events[-1])
    return events
