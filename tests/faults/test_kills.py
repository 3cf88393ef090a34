"""Each stage and the broker die by kill -9 during a run, and nothing is lost, counted twice or said twice."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cexdex.records.record import declarations
from cexdex.runtime.clickhouse import Warehouse
from embedded.machine import Machine
from tests.faults.town import Town, town

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(300)]

DERIVED = ("spreads", "consolidated", "liquidity", "candles", "alerts", "rates")
RULE = {"rule": "any", "enter_bps": 1.0, "clear_bps": 0.0, "for_s": 0.0}


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, Counter[str]]]:
    """Somebody to tell: counts each webhook-id."""
    got: Counter[str] = Counter()

    async def take(request: web.Request) -> web.Response:
        got[request.headers["webhook-id"]] += 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", got
    finally:
        await runner.cleanup()


async def test_kills_of_every_stage_and_the_broker_lose_nothing_and_repeat_nothing(
    machine: Machine, jar_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWN_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    async with receiver() as (url, told):
        target = {
            "target": "desk",
            "kind": "webhook",
            "url": url,
            "secret_env": "TOWN_SECRET",
            "cooldown_s": 0,
        }
        async with town(tmp_path, jar_cache, machine, rules=[RULE], targets=[target]) as running:
            for name in ("venues", "sink", "process", "notify", "ingest"):
                running.start(name)
            await running.more(200, "spreads")
            for victim in ("process", "sink", "notify", "ingest"):
                running.kill(victim)
                await asyncio.sleep(1.5)  # an outage with a length, not a wait for a state
                running.start(victim)
                await running.more(150, "spreads")
            await running.kill_broker()
            await running.more(200, "spreads")
            await running.more(20, "candles")
            running.stop("ingest")
            await asyncio.sleep(4)  # stream time follows the wall clock by three seconds
            for name in ("process", "notify"):
                running.stop(name)
            await running.stored()
            running.stop("sink")
            await tables_hold_the_newest_of_each_id(running)
            await derived_records_of_one_id_are_equal(running)
            await what_an_ingestor_missed_is_a_gap_with_its_count(running)
            await no_trade_is_in_a_candle_twice(running)
            await nobody_was_told_twice(running, told)


async def tables_hold_the_newest_of_each_id(running: Town) -> None:
    stored_any = 0
    for name, declaration in declarations().items():
        newest: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
        for _, offset, record in await running.records(name):
            key = tuple("" if record[field] is None else record[field] for field in declaration.id)
            if key not in newest or offset > newest[key][0]:
                newest[key] = (offset, record)
        rows = {}
        for row in await running.rows(declaration):
            key = tuple("" if row[field] is None else row[field] for field in declaration.id)
            assert key not in rows, f"{name} {key} is twice in the table"
            rows[key] = row
        assert rows.keys() == newest.keys(), name
        for key, (_, record) in newest.items():
            assert rows[key] == {field: record[field] for field in rows[key]}, f"{name} {key}"
        stored_any += len(rows)
    assert stored_any > 5_000


async def derived_records_of_one_id_are_equal(running: Town) -> None:
    repeated = 0
    for name in DERIVED:
        values: dict[tuple[Any, ...], dict[str, Any]] = {}
        for _, _, record in await running.records(name):
            del record["published_at"]
            key = tuple(record[field] for field in declarations()[name].id)
            repeated += key in values
            assert values.setdefault(key, record) == record, f"{name} {key}"
    assert repeated, "a killed processor says again what it had said beyond its commit"


async def what_an_ingestor_missed_is_a_gap_with_its_count(running: Town) -> None:
    ids: dict[str, set[int]] = defaultdict(set)
    for _, _, trade in await running.records("trade"):
        ids[trade["instrument"]].add(int(trade["trade_id"]))
    gaps: dict[tuple[str, int], int] = {}
    for _, _, status in await running.records("venue_status"):
        if status["kind"] == "gap" and status["reason"].startswith("trades"):
            gaps[status["instrument"], status["started_at"]] = status["lost"]
    lost = Counter[str]()
    for (instrument, _), count in gaps.items():
        lost[instrument] += count
    assert len(ids) >= 10
    for instrument, seen in ids.items():
        assert max(seen) - min(seen) + 1 == len(seen) + lost[instrument], instrument
    assert sum(lost.values()) > 0, "Binance sends no recent trades on connect: something was missed"


async def no_trade_is_in_a_candle_twice(running: Town) -> None:
    trades: dict[tuple[str, str], dict[str, Any]] = {}
    for _, _, trade in await running.records("trade"):
        trades[trade["instrument"], trade["trade_id"]] = trade
    by_second: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for trade in trades.values():
        by_second[trade["instrument"], trade["event_time"] // 1_000_000 * 1_000_000].append(trade)
    whole = 0
    for _, _, candle in await running.records("candles"):
        if candle["instrument"] and candle["interval"] == "1s":
            members = by_second[candle["instrument"], candle["started_at"]]
            assert candle["trades"] <= len(members), candle
            if candle["trades"] == len(members):
                whole += 1
                assert candle["volume"] == pytest.approx(sum(trade["size"] for trade in members))
                assert candle["high"] == max(trade["price"] for trade in members)
    assert whole > 100


async def nobody_was_told_twice(running: Town, told: Counter[str]) -> None:
    warehouse = await Warehouse.open(running.config.clickhouse)
    try:
        delivered = await warehouse.rows(
            "SELECT webhook_id, count() FROM alert_deliveries FINAL WHERE status = 'delivered' GROUP BY webhook_id"
        )
    finally:
        await warehouse.close()
    assert delivered
    assert {webhook_id for webhook_id, _ in delivered} <= told.keys()
    # one kill of notify: what was in flight then may be said once more, under the same id
    assert sum(count - 1 for count in told.values()) <= 8
    firing = [record for _, _, record in await running.records("alerts") if record["state"] == "firing"]
    once = {(record["alert_id"], record["received_at"]) for record in firing if record["deliver"]}
    assert len({alert_id for alert_id, _ in once}) == len(once), "an alert fires once"
