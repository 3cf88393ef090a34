"""The process stage on a real broker: a kill changes nothing, and a replay is the same bytes again."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import msgspec
import pytest

from cexdex.config import Config, load
from cexdex.records.record import Record, declaration_of, declarations, decoder, encode
from cexdex.runtime import kafka
from cexdex.runtime.clock import now_us
from embedded.machine import Machine
from processors.runner import run
from tests.processors.history import RULES, History, history
from tests.processors.market import S, listed, quoted, reference

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DERIVED = ("spreads", "consolidated", "liquidity", "candles", "alerts", "rates")
CHILD = """
import asyncio, sys
from processors.runner import run
from tests.processors.test_runner import configured
asyncio.run(run(configured(*sys.argv[1:]), until_end=True))
"""


def configured(servers: str, prefix: str) -> Config:
    return load(
        overrides={
            "kafka": {"servers": servers},
            "topics": {"prefix": prefix, "partitions": 4},
            "notionals_usd": [50, 400],
            "rules": RULES,
        }
    )


async def filled(servers: str, prefix: str, made: History) -> Config:
    config = configured(servers, prefix)
    await kafka.create_topics(config)
    publisher = kafka.Publisher(config, name=prefix)
    await publisher.start()
    for record in [record for _, _, record in made.small if type(record).__name__ != "Rule"] + made.market:
        publisher.publish(record)
        if publisher.full:
            await publisher.room()
    await publisher.flush()
    await publisher.stop()
    return config


async def said(config: Config, *types: str) -> dict[str, list[bytes]]:
    """Every value of these topics, partition by partition, without published_at."""
    reader = kafka.consumer(config.kafka.servers)
    await reader.start()
    counts = await kafka.partition_counts(config)
    values: dict[str, list[bytes]] = {}
    for name in types:
        struct = declarations()[name].struct
        topic = kafka.topic_of(config, declarations()[name])
        for number in range(counts[topic]):
            tp = kafka.TopicPartition(topic, number)
            reader.assign([tp])
            end = (await kafka.end_offsets(reader, [tp]))[tp]
            reader.seek(tp, 0)
            while await reader.position(tp) < end:
                for messages in (await reader.getmany(tp, timeout_ms=500)).values():
                    records = [decoder(struct).decode(message.value) for message in messages]
                    values.setdefault(name, []).extend(map(unstamped, records))
    await kafka.stop_consumer(reader)
    return values


async def until(config: Config, name: str, enough: int, child: asyncio.subprocess.Process) -> None:
    for _ in range(2000):
        if child.returncode is not None or len((await said(config, name)).get(name, ())) >= enough:
            return
        await asyncio.sleep(0.02)


def unstamped(record: Record) -> bytes:
    return encode(msgspec.structs.replace(record, published_at=0))


def by_id(name: str, values: list[bytes]) -> dict[Any, bytes]:
    declaration = declarations()[name]
    return {declaration.id_of(decoder(declaration.struct).decode(value)): value for value in values}


async def test_two_replays_of_one_history_are_the_same_bytes(machine: Machine) -> None:
    made = history(3, seconds=60)
    first = await filled(machine.kafka, "replayone.", made)
    second = await filled(machine.kafka, "replaytwo.", made)
    summary = await run(first, until_end=True)
    await run(second, until_end=True)
    one, two = await said(first, *DERIVED), await said(second, *DERIVED)
    assert summary.records == len(made.market)
    assert summary.counts["late"] == 0
    assert summary.published["spreads"] == len(one["spreads"])
    assert set(one) == set(DERIVED)
    assert one == two
    again = await run(first, until_end=True)
    assert sum(again.published.values()) == 0


async def test_killed_in_the_middle_nothing_is_missing_and_nothing_differs(machine: Machine) -> None:
    made = history(5, seconds=500)
    calm = await filled(machine.kafka, "calm.", made)
    await run(calm, until_end=True)
    whole = await said(calm, *DERIVED)

    killed = await filled(machine.kafka, "killed.", made)
    for wanted in (0.2, 0.6):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, machine.kafka, "killed.", cwd="."
        )
        await until(killed, "spreads", int(wanted * len(whole["spreads"])), child)
        assert child.returncode is None, "it was done before it could be killed"
        child.send_signal(signal.SIGKILL)
        await child.wait()
    await run(killed, until_end=True)
    parts = await said(killed, *DERIVED)
    for name in DERIVED:
        assert by_id(name, parts[name]) == by_id(name, whole[name]), name
        assert set(parts[name]) == set(whole[name]), f"{name}: one id with two values"


async def test_live_a_quote_becomes_a_spread_and_silence_a_stale_leg(machine: Machine) -> None:
    config = configured(machine.kafka, "live.")
    await kafka.create_topics(config)
    publisher = kafka.Publisher(config, name="live")
    await publisher.start()
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run(config, stop=stop, ready=ready))
    await asyncio.wait_for(ready.wait(), 60)
    now = now_us()
    for name in ("kraken:BTC-USD", "coinbase:BTC-USDT"):
        publisher.publish(listed(name, at=now, fee=0))
    publisher.publish(reference("kraken:USDT-USD", 0.999, 1.001, now))
    for _ in range(25):
        now = now_us()
        publisher.publish(quoted("kraken:BTC-USD", 99.9, 100.0, now))
        publisher.publish(quoted("coinbase:BTC-USDT", 100.2, 100.3, now + 1))
        await asyncio.sleep(0.1)
    last = now + 1

    def spreads(values: list[bytes]) -> list[Any]:
        decode = decoder(declarations()["spreads"].struct).decode
        return [s for s in map(decode, values) if s.edge == "kraken:BTC-USD>coinbase:BTC-USDT"]

    reason: str | None = "none yet"
    seen: list[Any] = []
    for _ in range(100):
        await asyncio.sleep(0.1)
        seen = spreads((await said(config, "spreads")).get("spreads", []))
        reason = seen[-1].reason if seen else None
        if reason == "stale_leg" and any(s.valid for s in seen):
            break
    stop.set()
    await running
    await publisher.stop()
    [valid] = [s for s in seen if s.valid][:1]
    assert valid.net_bps == pytest.approx(20, abs=1e-6)
    assert valid.rate_state == "live"
    assert seen[-1].reason == "stale_leg"
    assert last + 3 * S < seen[-1].received_at <= last + 3 * S + 200_000
    assert declaration_of(type(seen[-1])).topic == "spreads"
