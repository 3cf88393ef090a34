"""From Kafka to ClickHouse on the real parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cexdex.config import Config
from cexdex.records.record import Record, declarations
from cexdex.runtime.clickhouse import ClickHouseUnavailableError, Warehouse
from cexdex.runtime.kafka import (
    Publisher,
    TopicPartition,
    committed,
    consumer,
    create_topics,
    delete_topics,
    end_offsets,
    stop_consumer,
    topic_name,
)
from cexdex.runtime.metrics import Monitor
from sinks.runner import SinkRefusedError, group, run
from sinks.schema.runner import compare_tables, prepare_tables, set_tables_aside
from tests.sinks.samples import AT, any_record, quote, trade

pytestmark = pytest.mark.integration


async def publish(config: Config, *records: Record) -> None:
    publisher = Publisher(config, name="test")
    await publisher.start()
    for record in records:
        publisher.publish(record)
    await publisher.flush()
    await publisher.stop()


async def rows(config: Config, sql: str) -> list[tuple[Any, ...]]:
    warehouse = await Warehouse.open(config.clickhouse)
    try:
        return await warehouse.rows(sql)
    finally:
        await warehouse.close()


async def test_every_record_type_is_stored_with_all_its_fields(config: Config) -> None:
    await create_topics(config)
    await publish(config, *(any_record(tag) for tag in declarations()))
    await run(config, until_end=True)
    for tag, declaration in declarations().items():
        sent = any_record(tag)
        fields = [name for name in declaration.struct.__struct_fields__ if name != "published_at"]
        [stored] = await rows(config, f"SELECT {', '.join(fields)} FROM {declaration.table} FINAL")
        assert [_plain(value) for value in stored] == [_plain(getattr(sent, name)) for name in fields], tag
    assert await compare_tables(config) == []


async def test_each_id_published_twice_a_second_apart_is_one_row(config: Config) -> None:
    await create_topics(config)
    records = [any_record(tag) for tag in declarations()]
    await publish(config, *records)
    await run(config, until_end=True)
    await asyncio.sleep(1)
    await publish(config, *records)
    await run(config, until_end=True)
    for declaration in declarations().values():
        table = declaration.table
        assert await rows(config, f"SELECT count() FROM {table} FINAL") == [(1,)], table
        assert await rows(config, f"SELECT _offset FROM {table} FINAL") == [
            (_second(config, declaration),)
        ], table


def _second(config: Config, declaration: Any) -> int:
    shared = [d.type for d in declarations().values() if d.topic == declaration.topic]
    return len(shared) + shared.index(declaration.type)


async def test_a_commit_stands_where_every_table_has_stored(config: Config) -> None:
    await create_topics(config)
    await publish(config, *(trade(number) for number in range(50)), quote(0))
    await run(config, until_end=True)
    reader = consumer(config.kafka.servers, group=group(config))
    await reader.start()
    partitions = [TopicPartition(topic_name(config.topics.prefix, "market"), number) for number in range(2)]
    reader.assign(partitions)
    try:
        assert await committed(reader, partitions) == await end_offsets(reader, partitions)
    finally:
        await stop_consumer(reader)


async def test_what_is_no_record_becomes_a_dead_letter_and_holds_nothing_up(config: Config) -> None:
    await create_topics(config)
    await prepare_tables(config)
    good = trade(1)
    values = [
        b"no json",
        b'{"type":"trade"}',
        b'{"type":"unheard_of"}',
        _changed(good, b'"price":100.0', b'"price":null'),
        _changed(good, b'"price":100.0', b'"price":1e999'),
        _changed(good, b'"price":100.0', b'"price":NaN'),
        _changed(good, b'"revision":0', b'"revision":18446744073709551616'),
        _changed(good, b'"revision":0', b'"revision":9223372036854775808'),
        _changed(good, b'"price":100.0', b'"price":100.0,"unknown":1'),
        _changed(good, b'"price":100.0', b'"price":100.0,"price":5'),
        _changed(good, b'"price":100.0', b'"price":"100.0"'),
        b"",
    ]
    await _send_raw(config, values)
    await publish(config, good)
    await run(config, until_end=True)
    assert await rows(config, "SELECT trade_id, price FROM trades FINAL") == [("1", 100.0)]
    letters = await rows(config, "SELECT offset, error, length FROM dead_letters FINAL ORDER BY offset")
    # At most ten a second are kept of one partition.
    assert [offset for offset, _, _ in letters][:9] == list(range(9))
    assert all(error for _, error, _ in letters)


async def _send_raw(config: Config, values: Iterable[bytes]) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=config.kafka.servers)
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic_name(config.topics.prefix, "market"), value, key=b"x", partition=0)
    await producer.stop()


def _changed(record: Record, old: bytes, new: bytes) -> bytes:
    from cexdex.records.record import encode

    value = encode(record)
    assert old in value
    return value.replace(old, new, 1)


async def test_rows_without_a_commit_are_refused_until_the_tables_are_set_aside(config: Config) -> None:
    await create_topics(config)
    await publish(config, trade(1))
    await run(config, until_end=True)
    await delete_topics(config)
    await asyncio.sleep(1)
    await create_topics(config)
    await publish(config, trade(2))
    with pytest.raises(SinkRefusedError, match="set-aside"):
        await run(config, until_end=True)
    [moved] = [name for name in await set_tables_aside(config) if "trades" in name]
    await run(config, until_end=True)
    assert await rows(config, "SELECT trade_id FROM trades FINAL") == [("2",)]
    assert await rows(config, f"SELECT trade_id FROM {moved} FINAL") == [("1",)]


async def test_records_deleted_before_they_were_stored_are_counted(config: Config) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

    await create_topics(config)
    await publish(config, trade(0))
    await run(config, until_end=True)
    await publish(config, *(trade(number) for number in range(1, 8)))
    [(partition,)] = await rows(config, "SELECT _partition FROM trades")
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.servers)
    await admin.start()
    market = TopicPartition(topic_name(config.topics.prefix, "market"), partition)
    await admin.delete_records({market: RecordsToDelete(before_offset=5)})
    await admin.close()
    await run(config, until_end=True)
    assert await rows(config, "SELECT count() FROM trades FINAL") == [(4,)]
    [(error, offset)] = await rows(config, "SELECT error, offset FROM dead_letters FINAL")
    assert error.startswith("4 records (1 to 4) were deleted")
    assert offset == 1


async def test_a_batch_over_more_days_than_clickhouse_takes_is_split(config: Config) -> None:
    await create_topics(config)
    day = 86_400_000_000
    await publish(config, *(trade(number, at=AT - number * day) for number in range(120)))
    own = config.model_copy(update={"keep_days": {"trades": 3650}})
    await run(own, until_end=True)
    assert await rows(config, "SELECT uniqExact(toDate(time)), count() FROM trades FINAL") == [(120, 120)]


async def test_a_table_that_clickhouse_refuses_stops_and_nothing_is_committed_past_it(config: Config) -> None:
    await create_topics(config)
    await prepare_tables(config)
    warehouse = await Warehouse.open(config.clickhouse)
    await warehouse.command("ALTER TABLE trades ADD CONSTRAINT dear CHECK price < 1000")
    await warehouse.close()
    await publish(config, quote(0), trade(1), trade(2, price=5000.0), quote(1))
    monitor = Monitor("sink", port=0)
    task = asyncio.create_task(run(config, monitor=monitor))
    await _until(lambda: "table trades" in monitor.problems)
    await asyncio.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(config, "SELECT count() FROM quotes FINAL") == [(2,)]
    reader = consumer(config.kafka.servers, group=group(config))
    await reader.start()
    market = [TopicPartition(topic_name(config.topics.prefix, "market"), number) for number in range(2)]
    reader.assign(market)
    assert sorted((await committed(reader, market)).values(), key=str) == [0, 1]
    await stop_consumer(reader)


async def test_two_sinks_share_the_partitions_and_one_takes_over_from_the_other(config: Config) -> None:
    await create_topics(config)
    await prepare_tables(config)
    first, second = (asyncio.create_task(run(config, prepare=False, shared=True)) for _ in range(2))
    await asyncio.sleep(4)
    for number in range(0, 40, 2):
        await publish_all(config, number)
    await stored_trades(config, 40)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for number in range(40, 60, 2):
        await publish_all(config, number)
    await stored_trades(config, 60)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    # Its commits are where a sink that takes all goes on.
    await run(config, until_end=True)
    assert await rows(config, "SELECT count(), uniqExact(_partition) FROM trades FINAL") == [(60, 2)]


async def publish_all(config: Config, number: int) -> None:
    """A trade each of two markets that live on different partitions."""
    await publish(config, trade(number, market="BTC-USD"), trade(number + 1, market="ETH-BTC"))


async def stored_trades(config: Config, count: int) -> None:
    async with asyncio.timeout(30):
        while await rows(config, "SELECT count() FROM trades FINAL") != [(count,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_a_batch_is_tried_unchanged_until_clickhouse_is_back(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_topics(config)
    await prepare_tables(config)
    await publish(config, *(trade(number) for number in range(10)))
    tried: list[tuple[str, str, bytes]] = []
    monitor = Monitor("sink", port=0)
    problems: list[str] = []
    insert = Warehouse.insert

    async def insert_at_last(self: Warehouse, table: str, body: bytes, *, token: str) -> None:
        tried.append((table, token, body))
        problems.extend(monitor.problems)
        if len(tried) < 4:
            if len(tried) == 2:  # What comes meanwhile waits for the next batch.
                await publish(config, trade(10))
            raise ClickHouseUnavailableError("ClickHouse does not answer")
        await insert(self, table, body, token=token)

    monkeypatch.setattr(Warehouse, "insert", insert_at_last)
    task = asyncio.create_task(run(config, monitor=monitor))
    await stored_trades(config, 11)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tried[0] == tried[1] == tried[2] == tried[3]
    assert tried[4][1] != tried[0][1]
    assert "clickhouse" in problems
    assert monitor.problems == {}


async def test_an_answer_that_was_lost_does_not_store_rows_twice(config: Config) -> None:
    """clickhouse-connect sends an insert again when its connection breaks: the token tells that it is the same."""
    from urllib.parse import urlsplit

    await create_topics(config)
    await prepare_tables(config)
    lost = 0
    url = urlsplit(config.clickhouse.url)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        up_reader, up_writer = await asyncio.open_connection(url.hostname, url.port)
        losing = False

        async def up() -> None:
            nonlocal losing
            while data := await reader.read(65536):
                losing = losing or ((b"INSERT+INTO" in data or b"INSERT INTO" in data) and lost < 2)
                up_writer.write(data)
            up_writer.close()

        async def down() -> None:
            nonlocal lost
            while data := await up_reader.read(65536):
                if losing:
                    lost += 1
                    writer.transport.abort()
                    return
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await publish(config, *(trade(number) for number in range(10)))
    through = config.clickhouse.model_copy(update={"url": f"http://127.0.0.1:{port}"})
    await run(config.model_copy(update={"clickhouse": through}), until_end=True, prepare=False)
    server.close()
    assert lost == 2
    assert await rows(config, "SELECT count() FROM trades SETTINGS final = 0") == [(10,)]


async def _until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _plain(value: Any) -> Any:
    """As ClickHouse's client gives it: tuples and structs alike are dicts or tuples."""
    import msgspec

    value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        return tuple(_plain(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return tuple(_plain(inner) for inner in value)
    return value
