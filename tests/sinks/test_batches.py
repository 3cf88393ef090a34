"""What may be committed, and what is inserted when."""

from __future__ import annotations

import itertools

import pytest

from cexdex.records.record import declarations, encode
from sinks.batches import BATCH_DAYS, BATCH_ROWS, Batches, dead_letter
from tests.sinks.samples import AT, quote, trade

MARKET = "cexdex.market.v1"
DAY = 86_400_000_000


@pytest.fixture
def batches() -> Batches:
    numbers = itertools.count()
    feeds = {MARKET: [d for d in declarations().values() if d.topic == "market"]}
    made = Batches(feeds, lambda: f"token {next(numbers)}")
    made.start((MARKET, 0), 10)
    made.start((MARKET, 1), 0)
    return made


def take(
    batches: Batches, offset: int, record: object, *, partition: int = 0, now: float = 0.0
) -> list[tuple[int, str]]:
    type_ = str(type(record).__struct_config__.tag).encode()  # type: ignore[attr-defined]
    return batches.take((MARKET, partition), [(offset, type_, encode(record))], now)


def test_rows_are_the_producers_own_bytes_with_their_place_in_front(batches: Batches) -> None:
    record = trade(1)
    take(batches, 10, record)
    [batch] = batches.due(9.0)
    assert batch.body == b'{"_partition":0,"_offset":10,' + encode(record)[1:]


def test_a_commit_waits_for_every_table_that_the_partition_feeds(batches: Batches) -> None:
    for offset, record in enumerate([trade(1), quote(0), trade(2), quote(1)], 10):
        take(batches, offset, record)
    first = {batch.table: batch for batch in batches.due(9.0)}
    assert batches.commits() == {(MARKET, 0): 10, (MARKET, 1): 0}
    batches.stored(first["trades"])
    assert batches.commits()[MARKET, 0] == 11
    batches.stored(first["quotes"])
    assert batches.commits()[MARKET, 0] == 14
    assert batches.idle


def test_a_batch_is_frozen_when_it_leaves_and_the_next_one_waits_for_it(batches: Batches) -> None:
    take(batches, 10, trade(1))
    [frozen] = batches.due(9.0)
    body, token = frozen.body, frozen.token
    take(batches, 11, trade(2))
    assert batches.due(99.0) == []
    assert (frozen.body, frozen.token) == (body, token)
    batches.stored(frozen)
    [following] = batches.due(99.0)
    assert following.token != token
    assert batches.commits()[MARKET, 0] == 11


def test_quotes_wait_half_a_second_and_others_two(batches: Batches) -> None:
    take(batches, 10, trade(1), now=0.0)
    take(batches, 11, quote(1), now=0.0)
    assert batches.due(0.4) == []
    assert [batch.table for batch in batches.due(0.5)] == ["quotes"]
    assert batches.due(1.9) == []
    assert [batch.table for batch in batches.due(2.0)] == ["trades"]


def test_a_full_batch_waits_for_nothing_and_batches_mix_partitions(batches: Batches) -> None:
    for number in range(BATCH_ROWS + 1):
        take(batches, 10 + number, trade(number), partition=number % 2)
    [batch] = batches.due(0.0)
    assert len(batch.rows) == BATCH_ROWS
    assert set(batch.first) == {(MARKET, 0), (MARKET, 1)}


def test_an_insert_has_at_most_fifty_days(batches: Batches) -> None:
    for number in range(BATCH_DAYS + 5):
        take(batches, 10 + number, trade(number, at=AT - number * DAY))
    [first] = batches.due(0.0)
    batches.stored(first)
    [second] = batches.due(9.0)
    assert (len(first.days), len(second.days)) == (BATCH_DAYS, 5)


def test_nothing_is_committed_past_a_table_that_has_stopped_while_others_go_on(batches: Batches) -> None:
    take(batches, 10, quote(0))
    take(batches, 11, trade(1))
    out = {batch.table: batch for batch in batches.due(9.0)}
    batches.refused(out["trades"])
    batches.stored(out["quotes"])
    take(batches, 12, trade(2))
    take(batches, 13, quote(1))
    [more] = batches.due(99.0)
    batches.stored(more)
    assert more.table == "quotes"
    assert batches.commits()[MARKET, 0] == 11
    assert batches.idle


@pytest.mark.parametrize(
    ("type_", "value", "why"),
    [
        (b"trade", b"no json", "not a record of trades: "),
        (b"trade", encode(quote(1)), "not a record of trades: "),
        (None, b"[1,2]", "there is no record type ''"),
        (None, b'{"type":"unheard_of"}', "there is no record type 'unheard_of'"),
        (b"spreads", b"{}", "there is no record type 'spreads' in this topic"),
        (b"\xff", b"{}", "there is no record type '\ufffd' in this topic"),
        (b"trade", None, "not a record of trades: "),
        (None, b"[" * 100_000, "there is no record type ''"),
    ],
)
def test_what_is_no_record_is_said_in_words_and_does_not_hold_the_commit(
    batches: Batches, type_: bytes | None, value: bytes | None, why: str
) -> None:
    [(offset, said)] = batches.take((MARKET, 0), [(10, type_, value)], 0.0)
    assert offset == 10
    assert said.startswith(why)
    assert batches.commits()[MARKET, 0] == 11


def test_rows_that_name_a_field_twice_are_taken_out_of_a_refused_batch(batches: Batches) -> None:
    take(batches, 10, trade(1))
    twice = encode(trade(2)).replace(b'"price":100.0', b'"price":100.0,"price":5.0')
    assert batches.take((MARKET, 0), [(11, None, b"  " + twice)], 0.0) == []
    [batch] = batches.due(9.0)
    token = batch.token
    [(partition, offset, _)] = batches.without_repeats(batch)
    assert (partition, offset) == ((MARKET, 0), 11)
    assert len(batch.rows) == batches.rows == 1
    assert batch.token != token


def test_a_dead_letter_keeps_the_first_64_kib(batches: Batches) -> None:
    import base64

    letter = dead_letter((MARKET, 1), 5, AT, b"x" * 100_000, "why")
    assert len(base64.b64decode(letter.payload)) == 65_536
    assert (letter.length, letter.origin, letter.received_at) == (100_000, f"{MARKET}/1", AT)
