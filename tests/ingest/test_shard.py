"""A shard's connections, one after another and one beside another, with scripted feeds on sockets that are none."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.venue_status import VenueStatus
from ingest.feed import Fetch
from ingest.runner import shard as shards
from tests.ingest.scripted import (
    T0,
    A,
    B,
    book,
    quote,
    reference,
    replacing,
    stage,
)

pytestmark = pytest.mark.timeout(30)


async def test_a_successor_says_nothing_until_it_takes_over_and_then_its_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage(monkeypatch, ("BTC", "ETH")) as (it, old):
        old.quote(A)
        old.quote(B)
        await it.taken(old)
        new = await replacing(it, old)
        mark = len(it.heard)
        new.quote(A, bid=101.0)
        new.quote(A, bid=102.0)
        new.say(book(A, new.session), reference(A, new.session, "live"))
        new.say(VenueStatus(venue="coinbase", kind="stale", started_at=T0, received_at=T0, reason=""))
        await it.taken(new)
        assert it.heard[mark:] == []
        new.quote(B, bid=7.0)
        await it.until(lambda: "replaced" in it.statuses())
        assert [(q.instrument, q.bid, q.session) for q in it.of(Quote, mark)] == [
            (A, 102.0, new.session),
            (B, 7.0, new.session),
        ]
        assert [b.session for b in it.of(Book, mark)] == [new.session]
        await it.until(lambda: old.closed)
        assert not old.lost_at
        old.quote(A)
        new.quote(A, "syncing")
        await it.taken(new)
        assert it.of(Quote, mark)[-1].state == "syncing", "nobody else speaks now"


async def test_it_takes_over_only_while_it_is_live_in_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch, ("BTC", "ETH")) as (it, old):
        old.quote(A)
        old.quote(B)
        await it.taken(old)
        new = await replacing(it, old)
        new.quote(A)
        new.quote(A, "syncing")
        new.quote(B)
        await it.taken(new)
        assert "replaced" not in it.statuses()
        old.quote(A, "syncing")
        await it.until(lambda: "replaced" in it.statuses())
        assert [q.instrument for q in it.of(Quote) if q.session == new.session] == [B]


async def test_a_successor_that_is_given_up_has_published_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "REPLACED_WITHIN_S", 0.2)
    async with stage(monkeypatch, ("BTC", "ETH")) as (it, old):
        old.quote(A)
        old.quote(B)
        old.trade(A, 1)
        await it.taken(old)
        new = await replacing(it, old)
        mark = len(it.heard)
        new.quote(A)
        new.trade(A, 5)
        await it.until(lambda: new.closed)
        assert it.heard[mark:] == []
        old.trade(A, 2)
        await it.taken(old)
        assert it.trades() == [("1", "live"), ("2", "live")]
        assert old.recalled == []


async def test_a_replacement_loses_no_trade_and_gives_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch) as (it, old):
        old.quote(A)
        old.trade(A, 1)
        await it.taken(old)
        new = await replacing(it, old)
        new.trade(A, 2, 3, 4, 7)
        await it.taken(new)
        old.trade(A, 2)
        await it.taken(old)
        assert (old.recalled, new.recalled) == ([], ["1", "2"])
        new.quote(A)
        await it.until(lambda: "replaced" in it.statuses())
        new.trade(A, 8)
        await it.taken(new)
        assert it.trades() == [(str(number), "live") for number in (1, 2, 3, 4, 7, 8)]
        [gap] = [status for status in it.of(VenueStatus) if status.kind == "gap"]
        assert (gap.lost, gap.reason) == (2, "trades 5 to 6 did not arrive")


async def test_a_hole_that_the_old_one_filled_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch) as (it, old):
        old.quote(A)
        old.trade(A, 1)
        await it.taken(old)
        new = await replacing(it, old)
        new.trade(A, 5)
        await it.taken(new)
        old.trade(A, 2, 3, 4)
        await it.taken(old)
        new.quote(A)
        await it.until(lambda: "replaced" in it.statuses())
        assert it.trades() == [(str(number), "live") for number in range(1, 6)]
        assert "gap" not in it.statuses()


async def test_a_recovered_trade_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch) as (it, first):
        first.quote(A)
        first.trade(A, 1)
        await it.taken(first)
        first.breaks()
        second = await it.next_feed(2)
        second.quote(A)
        second.trade(A, 2, 3, snapshot=True)
        await it.taken(second)
        second.breaks()
        third = await it.next_feed(3)
        assert (second.recalled, third.recalled) == (["1"], ["3"])
        third.trade(A, 2, 3, 4, snapshot=True)
        await it.taken(third)
        assert it.trades() == [("1", "live"), ("2", "recovery"), ("3", "recovery"), ("4", "recovery")]


async def test_one_that_is_lost_while_it_is_replaced_hands_over_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage(monkeypatch, ("BTC", "ETH")) as (it, old):
        old.quote(A)
        old.quote(B)
        await it.taken(old)
        new = await replacing(it, old)
        new.quote(A)
        await it.taken(new)
        mark = len(it.heard)
        it.closing.clear()
        old.breaks()
        await it.until(lambda: [q for q in it.of(Quote, mark) if q.session == new.session])
        assert [(q.instrument, q.session, q.state) for q in it.of(Quote, mark)] == [
            (A, old.session, "stale"),
            (B, old.session, "stale"),
            (A, new.session, "live"),
        ]
        assert it.monitor.problems == {}, "the next connection is there"
        outages = [status for status in it.of(VenueStatus) if status.kind == "disconnected"]
        assert [status.ended_at is None for status in outages] == [True, False]
        assert not old.closed


async def test_a_stop_during_a_replacement_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    async with stage(monkeypatch) as (it, old):
        old.quote(A)
        await it.taken(old)
        new = await replacing(it, old)
        mark = len(it.heard)
    assert asyncio.all_tasks() == before
    assert (old.closed, new.closed) == (True, True)
    assert [(q.session, q.state) for q in it.of(Quote, mark)] == [(old.session, "stale")]


async def test_what_a_successor_is_not_live_in_the_lost_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch, ("BTC", "ETH")) as (it, first):
        first.quote(A)
        first.quote(B)
        await it.taken(first)
        first.breaks()
        second = await it.next_feed(2)
        mark = len(it.heard)
        second.quote(A)
        second.say(reference(A, second.session, "syncing"), reference(B, second.session, "syncing"))
        second.say(quote(B, second.session, "syncing"))
        await it.taken(second)
        own = [record for record in it.heard[mark:] if getattr(record, "session", 0) == second.session]
        assert [(type(r), r.instrument) for r in own] == [(Quote, A), (ReferenceQuote, A)]  # type: ignore[attr-defined]
        await it.until(lambda: it.of(ReferenceQuote, mark)[-1].session == first.session)
        others = {r.instrument for r in it.of(ReferenceQuote, mark) if r.session == first.session}
        assert others == {B}, "for the other the new one speaks"


async def test_one_that_was_never_live_does_not_silence_the_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch) as (it, first):
        first.quote(A)
        await it.taken(first)
        first.breaks()
        second = await it.next_feed(2)
        second.breaks()
        third = await it.next_feed(3)
        mark = len(it.heard)
        third.say(quote(A, third.session, "syncing"))
        await it.taken(third)
        await it.until(lambda: it.of(ReferenceQuote, mark))
        assert {r.session for r in it.of(ReferenceQuote, mark)} == {first.session}
        assert it.of(Quote, mark) == []


async def test_a_loss_is_said_before_the_socket_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(monkeypatch) as (it, first):
        first.quote(A)
        await it.taken(first)
        it.closing.clear()
        mark = len(it.heard)
        first.breaks()
        await it.until(lambda: len(it.heard) >= mark + 2)
        assert not first.closed
        assert [(q.state, q.bid) for q in it.of(Quote, mark)] == [("stale", None)]
        assert it.of(VenueStatus, mark)[0].reason == "the connection broke"
        it.closing.set()
        await it.next_feed(2)
        assert len(it.of(Quote, mark)) == 1, "once"


async def test_a_request_that_breaks_is_named_and_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> bytes:
        raise KeyError("odd")

    async with stage(monkeypatch) as (it, first):
        it.answer = broken
        with capture_logs() as logs:
            first.say(Fetch("depth BTC", "depth", "BTC-USD", "http://x/depth"))
            await it.next_feed(2)
        [said] = [line for line in logs if line["log_level"] == "error"]
        assert (said["event"], said["venue"], said["tag"]) == ("request broke", "coinbase", "depth BTC")
        [outage] = [s for s in it.of(VenueStatus) if s.kind == "disconnected" and s.ended_at is None]
        assert outage.reason == "request depth BTC broke: KeyError('odd')"
