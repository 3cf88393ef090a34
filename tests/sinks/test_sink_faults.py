"""The sink is killed in the middle, again and again, and the tables hold what the topics hold."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from cexdex.config import Config
from cexdex.records.record import Record, declaration_of, declarations, decoder, topic_types
from cexdex.runtime.clickhouse import Warehouse
from cexdex.runtime.kafka import (
    Publisher,
    TopicPartition,
    consumer,
    create_topics,
    end_offsets,
    stop_consumer,
    topic_name,
)
from sinks.runner import run
from sinks.schema.runner import prepare_tables
from tests.sinks.samples import any_record, quote, trade

pytestmark = [pytest.mark.integration, pytest.mark.faults]

KILLS = 5

SINK = """
import asyncio, json, sys
from cexdex.config import load
from sinks.runner import run
asyncio.run(run(load(overrides=json.loads(sys.argv[1])), prepare=False))
"""


def sink_process(config: Config) -> subprocess.Popen[bytes]:
    import json

    overrides = {
        "kafka": {"servers": config.kafka.servers},
        "topics": {"prefix": config.topics.prefix, "partitions": config.topics.partitions},
        "clickhouse": {
            "url": config.clickhouse.url,
            "user": config.clickhouse.user,
            "database": config.clickhouse.database,
        },
    }
    return subprocess.Popen(
        [sys.executable, "-c", SINK, json.dumps(overrides)], env=os.environ | {"PYTHONPATH": "."}
    )


async def keep_publishing(config: Config, stopping: asyncio.Event) -> None:
    """Trades, busts of some, quotes and spreads of two markets; each tenth record once more."""
    publisher = Publisher(config, name="test")
    await publisher.start()
    number = 0
    while not stopping.is_set():
        for _ in range(100):
            market, instrument = (("BTC-USD", "binance:BTC-USDT"), ("ETH-USD", "binance:ETH-USDT"))[
                number % 2
            ]
            made: list[Record] = [
                trade(number, market=market, instrument=instrument),
                quote(number, market=market, instrument=instrument),
                any_record("spreads", market=market, edge=f"e{number % 7}", ordinal=number),
            ]
            if number % 10 == 0:
                made += [
                    trade(number, market=market, instrument=instrument, action="bust", revision=1),
                    made[1],
                ]
            for record in made:
                publisher.publish(record)
            number += 1
        await publisher.room()
        await asyncio.sleep(0.05)
    await publisher.flush()
    await publisher.stop()


async def newest_of_each_id(config: Config, topic: str) -> dict[str, dict[tuple[Any, ...], tuple[int, int]]]:
    """By table: where in the topic the newest record of each id stands."""
    decode = decoder(*topic_types(topic)).decode
    reader = consumer(config.kafka.servers)
    await reader.start()
    partitions = [
        TopicPartition(topic_name(config.topics.prefix, topic), n) for n in range(config.topics.partitions)
    ]
    reader.assign(partitions)
    ends = await end_offsets(reader, partitions)
    for partition in partitions:
        reader.seek(partition, 0)
    newest: dict[str, dict[tuple[Any, ...], tuple[int, int]]] = {}
    read = dict.fromkeys(partitions, 0)
    while any(read[p] < ends[p] for p in partitions):
        for partition, records in (await reader.getmany(timeout_ms=500)).items():
            for record in records:
                read[partition] = record.offset + 1
                found = decode(record.value)
                declaration = declaration_of(type(found))
                newest.setdefault(declaration.table, {})[declaration.id_of(found)] = (
                    partition.partition,
                    record.offset,
                )
    await stop_consumer(reader)
    return newest


async def more_rows(warehouse: Warehouse) -> None:
    """Returns once the sink that was started has stored something new."""
    sql = "SELECT max(_offset) FROM quotes"
    [(before,)] = await warehouse.rows(sql)
    async with asyncio.timeout(30):
        while await warehouse.rows(sql) == [(before,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_tables_equal_the_newest_record_of_each_id_after_kills(config: Config) -> None:
    await create_topics(config)
    await prepare_tables(config)
    chance = random.Random(7)
    stopping = asyncio.Event()
    publishing = asyncio.create_task(keep_publishing(config, stopping))
    warehouse = await Warehouse.open(config.clickhouse)
    for _ in range(KILLS):
        process = sink_process(config)
        await more_rows(warehouse)
        await asyncio.sleep(chance.uniform(0.0, 1.5))
        assert process.poll() is None, "the sink ended by itself"
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    stopping.set()
    await publishing
    await run(config, until_end=True)
    for topic in ("market", "spreads"):
        for table, newest in (await newest_of_each_id(config, topic)).items():
            ids = ", ".join(next(d for d in declarations().values() if d.table == table).id)
            rows = await warehouse.rows(f"SELECT _partition, _offset, {ids} FROM {table} FINAL")
            assert {row[2:]: row[:2] for row in rows} == newest, table
            assert len(rows) == len(newest)
    await warehouse.close()
