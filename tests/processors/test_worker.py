"""One partition: its stream time, its order, and what does not get in."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cexdex.domain.murmur2 import partition_of
from cexdex.records.consolidated import Consolidated
from cexdex.records.dead_letters import DeadLetter
from cexdex.records.liquidity import Liquidity
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import Record, encode
from cexdex.records.rules import Rule
from cexdex.records.spreads import Spread
from cexdex.records.trade import Trade
from processors import worker
from processors.rates import RatesStream
from processors.worker import Partition
from tests.processors.market import T0, S, booked, config, listed, of, quoted, reference, traded

A, B = "kraken:BTC-USD", "coinbase:BTC-USD"


class Watcher:
    """Writes down what a processor is told."""

    reads = (Quote, Trade, Rate, Rule)
    writes = (Consolidated,)
    lookback_us = 1
    recalls = ()

    def __init__(self, market: str, _: Any) -> None:
        self.told: list[Any] = []
        self.points: list[int] = []
        watchers[market] = self

    def recall(self, own: Record) -> None:
        self.told.append(own)

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        self.told.append((record, offset, now))
        return iter(())

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        self.points.append(now)
        self.told.append((now, offset))
        return iter(())


watchers: dict[str, Watcher] = {}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Partition:
    watchers.clear()
    monkeypatch.setattr(worker, "discover", lambda: {"watcher": Watcher})
    partition = Partition(0, 1, config())
    know(partition, listed(A, at=T0 - 5 * S))
    return partition


def know(partition: Partition, *records: Record) -> list[Record]:
    said: list[Record] = []
    for record in records:
        know.offset += 1  # type: ignore[attr-defined]
        said += partition.known(record, str(type(record).__struct_config__.tag), know.offset)  # type: ignore[attr-defined]
    return said


know.offset = -1  # type: ignore[attr-defined]


def feed(partition: Partition, *records: Record) -> list[Record]:
    return [output for record in records for output in partition.on(record, partition.offset + 1)]


def points(since: int = 0) -> list[int]:
    return [point - T0 for point in watchers["BTC-USD"].points if point - T0 > since]


def test_a_point_comes_before_the_record_that_reaches_it(watched: Partition) -> None:
    first, second = quoted(A, 1, 2, T0 + 550_000), quoted(A, 1, 3, T0 + 700_000)
    feed(watched, first, second)
    assert watchers["BTC-USD"].told == [
        (first, 0, T0 + 550_000),
        (T0 + 600_000, 0),
        (T0 + 700_000, 0),
        (second, 1, T0 + 700_000),
    ]


def test_stream_time_never_goes_back(watched: Partition) -> None:
    feed(watched, quoted(A, 1, 2, T0 + 900_000), quoted(A, 1, 3, T0 + 850_000, ordinal=T0 + 900_001))
    assert watchers["BTC-USD"].told[-1][2] == T0 + 900_000


def test_after_a_long_jump_only_the_last_ten_seconds_are_called(watched: Partition) -> None:
    feed(watched, quoted(A, 1, 2, T0 + 600_000), quoted(A, 1, 3, T0 + 30 * S))
    assert points() == list(range(20 * S + 100_000, 30 * S + 1, 100_000))
    feed(watched, quoted(A, 1, 4, T0 + 40 * S))
    assert points(30 * S) == list(range(30 * S + 100_000, 40 * S + 1, 100_000))


def test_the_wall_clock_moves_what_has_begun_and_nothing_else(watched: Partition) -> None:
    assert list(watched.advance(T0 + 5 * S)) == []
    assert watched.now is None
    feed(watched, quoted(A, 1, 2, T0 + 600_000))
    list(watched.advance(T0 + 850_000))
    assert points() == [700_000, 800_000]
    feed(watched, quoted(A, 1, 3, T0 + 840_000))
    assert watched.counts["late"] == 1
    assert watchers["BTC-USD"].told[-1][2] == T0 + 850_000
    feed(watched, quoted(A, 1, 4, T0 + 860_000))
    assert watched.counts["late"] == 1


def test_a_small_record_takes_effect_half_a_second_later_and_never_before_its_turn(
    watched: Partition,
) -> None:
    know(watched, reference("kraken:USDT-USD", 0.999, 0.999, T0 + 100_000))
    know(watched, reference("kraken:USDT-USD", 0.998, 0.998, T0 + S))
    feed(watched, quoted(A, 1, 2, T0 + 550_000), quoted(A, 1, 3, T0 + 2_100_000))
    rates = [(told[0].rate, told[2] - T0) for told in watchers["BTC-USD"].told if isinstance(told[0], Rate)]
    assert rates == [(0.999, 600_000), (0.999, S), (0.998, 2 * S)]


def test_small_records_of_one_moment_go_by_topic_and_offset(watched: Partition) -> None:
    rule = _rule("late-name", T0 + S)
    records = [rule, msgspec.structs.replace(rule, rule="a")]
    for offset, record in [(5, records[0]), (4, records[1])]:
        assert list(watched.known(record, "rules", offset)) == []
    feed(watched, quoted(A, 1, 2, T0 + 550_000), quoted(A, 1, 2, T0 + S))
    rules = [told[0].rule for told in watchers["BTC-USD"].told if isinstance(told[0], Rule)]
    assert rules == ["a", "late-name"]


def test_a_small_record_that_comes_too_late_counts_and_acts_at_once(watched: Partition) -> None:
    feed(watched, quoted(A, 1, 2, T0 + 3 * S))
    know(watched, _rule("r", T0 + 3 * S))
    assert watched.counts["late"] == 1
    assert watchers["BTC-USD"].told[-1][2] == T0 + 3 * S


def test_what_was_in_force_before_the_first_record_is_so_without_a_point(watched: Partition) -> None:
    know(watched, _rule("r", T0 - S))
    feed(watched, quoted(A, 1, 2, T0 + 3 * S))
    assert [type(told[0]) for told in watchers["BTC-USD"].told] == [Rule, Quote]


def test_a_market_comes_into_being_with_what_is_in_force(watched: Partition) -> None:
    know(watched, _rule("r", T0 - S), reference("kraken:USDT-USD", 0.999, 0.999, T0 - S))
    know(watched, listed("kraken:ETH-USD", at=T0 + S))
    feed(watched, quoted(A, 1, 2, T0 + S), quoted(A, 1, 3, T0 + 1_600_000))
    assert [type(told[0]) for told in watchers["ETH-USD"].told[:2]] == [Rate, Rule]


def test_a_market_of_another_partition_is_not_ours(watched: Partition) -> None:
    number = partition_of(b"BTC-USD", 7)
    for owner in range(7):
        watchers.clear()
        partition = Partition(owner, 7, config())
        know(partition, listed(A, at=T0 - 5 * S))
        feed(partition, quoted(A, 1, 2, T0 + S))
        assert ("BTC-USD" in watchers) == (owner == number)
        assert partition.counts["unlisted"] == (0 if owner == number else 1)


@pytest.mark.parametrize(
    ("record", "again", "why"),
    [
        (quoted(A, 1, 2, T0 + S, 5), quoted(A, 1, 3, T0 + S, 5), "twice"),
        (quoted(A, 1, 2, T0 + S, 5), quoted(A, 1, 3, T0 + S, 4), "twice"),
        (quoted(A, 1, 2, T0 + S, 5), quoted(A, 1, 3, T0 + S, 6), None),
        (quoted(A, 1, 2, T0 + S, 5), quoted(B, 1, 3, T0 + S, 5), None),
        (quoted(A, 1, 2, T0 + S, 5), quoted(A, 1, 3, T0 + S, 0, session=2), None),
        (quoted(A, 1, 2, T0 + S, 5), booked(A, [], [], T0 + S, ordinal=5), None),
        (booked(A, [], [], T0 + S, ordinal=5), booked(A, [], [], T0 + S, ordinal=5), "twice"),
        (quoted(A, 1, 2, T0, 5, session=2), quoted(A, 1, 3, T0 + 3 * S, 6, session=1), "lower_session"),
        (quoted(A, 1, 2, T0, 5, session=2), booked(A, [], [], T0 + 3 * S), "lower_session"),
        (quoted(A, 1, 2, T0, 5, session=2), quoted(A, 1, 3, T0 + 3 * S + 1, 6, session=1), None),
        (traded(A, "7", 1, 1, T0 + S), traded(A, "7", 1, 1, T0 + 100 * S), "twice"),
        (traded(A, "7", 1, 1, T0 + S), traded(A, "8", 1, 1, T0 + S), None),
        (traded(A, "7", 1, 1, T0 + S), traded(B, "7", 1, 1, T0 + S), None),
        (traded(A, "7", 1, 1, T0 + S), traded(A, "7", 1, 1, T0 + S, action="bust"), None),
        (traded(A, "7", 1, 1, T0 + S), traded(A, "7", 1, 1, T0 + S, revision=1), None),
        (traded(A, "7", 1, 1, T0 + S), traded(A, "7", 1, 1, T0 + 122 * S), None),
        (traded(A, "6", 1, 1, T0 + S), traded(A, "7", 1, 1, T0 + S, origin="backfill"), "backfill"),
    ],
)
def test_what_came_twice_or_from_an_old_connection(
    watched: Partition, record: Record, again: Record, why: str | None
) -> None:
    feed(watched, record, again)
    assert dict(watched.counts) == ({} if why is None else {why: 1})


def test_an_old_session_is_followed_only_while_the_newest_is_silent(watched: Partition) -> None:
    feed(watched, quoted(A, 1, 2, T0, 0, session=2), quoted(A, 3, 4, T0 + 4 * S, 0, session=1))
    feed(watched, quoted(A, 5, 6, T0 + 4 * S, 1, session=2), quoted(A, 7, 8, T0 + 5 * S, 1, session=1))
    bids = [told[0].bid for told in watchers["BTC-USD"].told if isinstance(told[0], Quote)]
    assert bids == [1, 3, 5]
    assert watched.counts["lower_session"] == 1


def test_a_clock_that_runs_ahead_lifts_nobodys_time(watched: Partition) -> None:
    ahead = encode(quoted(A, 1, 2, T0 + 2 * S + 1))
    assert list(watched.receive(encode(quoted(A, 1, 2, T0)), 0, T0)) == []
    [letter] = watched.receive(ahead, 1, T0 + S)
    assert isinstance(letter, DeadLetter)
    assert (letter.origin, letter.partition, letter.offset) == ("market/0", 0, 1)
    assert letter.received_at == T0 + S
    assert base64.b64decode(letter.payload) == ahead
    assert watched.now == T0
    assert list(watched.receive(encode(quoted(A, 1, 2, T0 + 2 * S)), 2, T0 + S)) == []
    assert watched.now == T0 + 2 * S


@pytest.mark.parametrize(
    "value", [b"not json", b"{}", b'{"type":"trade"}', encode(reference("kraken:USDT-USD", 1, 1, T0))]
)
def test_a_value_that_is_no_record_of_a_market(watched: Partition, value: bytes) -> None:
    [letter] = watched.receive(value, 0, T0)
    assert isinstance(letter, DeadLetter)
    assert letter.length == len(value)
    assert watched.counts["dead_letters"] == 1


def test_ten_dead_letters_a_second_and_the_rest_counted(watched: Partition) -> None:
    said = [letter for offset in range(25) for letter in watched.receive(b"x", offset, T0)]
    assert len(said) == 10
    assert watched.counts["dead_letters"] == 25
    assert len(list(watched.receive(b"x", 25, T0 + S))) == 1


def test_before_the_commit_nothing_is_said_again() -> None:
    partition = Partition(0, 1, config(), aloud_from=2)
    know(partition, listed(A), listed(B))
    assert feed(partition, quoted(A, 100, 101, T0 + S), quoted(B, 100, 101, T0 + S)) == []
    said = feed(partition, quoted(B, 101, 102, T0 + S + 300_000))
    assert of(said, Spread, received_at=T0 + S + 300_000)
    assert {r.source_offset for r in of(said, Consolidated)} == {1}


def test_derived_records_carry_stream_time_and_the_offset_that_caused_them() -> None:
    partition = Partition(0, 1, config())
    know(partition, listed(A), listed(B))
    feed(partition, quoted(A, 100, 101, T0 + S), quoted(B, 100, 101, T0 + S))
    said = feed(partition, quoted(B, 103, 104, T0 + 2 * S))
    assert {(r.received_at, r.source_offset) for r in of(said, Liquidity)} == {(T0 + 2 * S, 1)}
    assert (T0 + 2 * S, 2) in {(r.received_at, r.source_offset) for r in of(said, Spread)}


def test_the_published_rates_are_the_ones_that_workers_use(watched: Partition) -> None:
    stream = RatesStream(config())
    quotes = [reference("kraken:USDT-USD", 0.999 + i * 1e-4, 0.9995, T0 + i * S) for i in range(6)]
    published: list[Any] = []
    for offset, quote in enumerate(quotes):
        published += stream.on(quote, offset)
        list(watched.known(quote, "reference_quotes", offset))
    feed(watched, quoted(A, 1, 2, T0 - S), quoted(A, 1, 2, T0 + 5 * S))
    used = [told[0] for told in watchers["BTC-USD"].told if isinstance(told[0], Rate)]
    assert [rate for rate in used if rate.received_at > T0] == published
    assert published[-1].source_offset == 4
    assert published[-1].rate == pytest.approx((0.9994 + 0.9995) / 2)


def test_rates_without_quotes_follow_the_wall_clock() -> None:
    stream = RatesStream(config())
    assert list(stream.advance(T0)) == []
    list(stream.on(reference("kraken:USDT-USD", 1.0, 1.0, T0), 0))
    said: list[Any] = list(stream.advance(T0 + 2 * S))
    assert [(rate.received_at - T0, rate.state) for rate in said] == [
        (500_000, "live"),
        (S, "live"),
        (2 * S, "live"),
    ]


def _rule(name: str, effective_at: int) -> Rule:
    return Rule(
        received_at=effective_at,
        rule=name,
        markets=[],
        venues=[],
        notional_usd=None,
        basis="net",
        converted=True,
        enter_bps=1,
        clear_bps=0,
        for_us=0,
        enabled=True,
        effective_at=effective_at,
    )
