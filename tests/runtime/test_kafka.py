"""Topics, offsets and the publisher on a real broker."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError

from cexdex.config import Config, load
from cexdex.records.record import decoder, topic_types
from cexdex.runtime.clickhouse import ClickHouseRefusedError, ClickHouseUnavailableError, Warehouse
from cexdex.runtime.kafka import (
    KafkaUnavailableError,
    Publisher,
    TopicPartition,
    beginning_offsets,
    commit,
    committed,
    compare_topics,
    consumer,
    create_topics,
    delete_topics,
    end_offsets,
    partition_counts,
    stop_consumer,
    topic_name,
)
from cexdex.runtime.topics import topics
from embedded.jars import fetch_jars
from embedded.kafka import Broker
from embedded.machine import Machine
from embedded.ports import Ports
from tests.sinks.samples import quote, trade

_numbers = itertools.count()


def on(servers: str, **of_topics: object) -> Config:
    prefix = f"k{os.getpid()}_{next(_numbers)}."
    return load(
        overrides={"kafka": {"servers": servers}, "topics": {"prefix": prefix, "partitions": 3} | of_topics}
    )


def test_a_topic_is_named_by_prefix_and_version() -> None:
    assert topic_name("cexdex.", "market") == "cexdex.market.v1"
    assert topic_name("replay_7.", "market", 2) == "replay_7.market.v2"


def test_topics_are_kept_as_long_as_they_are_needed() -> None:
    made = {topic.plain: topic for topic in topics(load())}
    assert (made["market"].partitions, made["venue_status"].partitions) == (12, 1)
    day, gib = "86400000", str(1 << 30)
    assert made["market"].settings["retention.ms"] == day
    assert made["market"].settings["retention.bytes"] == gib
    assert made["spreads"].settings["retention.bytes"] == str(128 << 20)
    assert made["rules"].settings["cleanup.policy"] == "compact"
    assert made["rules"].settings["min.compaction.lag.ms"] == day
    for topic in made.values():
        assert topic.settings["message.timestamp.type"] == "LogAppendTime"
        if topic.settings["cleanup.policy"] == "compact":
            assert topic.settings["retention.ms"] == topic.settings["retention.bytes"] == "-1"
    cluster = {topic.plain: topic for topic in topics(load(overrides={"topics": {"replication": 3}}))}
    assert cluster["market"].settings["retention.bytes"] == "-1"
    assert {t.settings["retention.ms"] for t in topics(load(), kept_for_ever=True)} == {"-1"}


@pytest.mark.integration
async def test_topics_are_made_once_compared_and_deleted(machine: Machine) -> None:
    config = on(machine.kafka)
    missing = await compare_topics(config)
    assert any(f"{config.topics.prefix}market.v1 does not exist" in sentence for sentence in missing)
    made = await create_topics(config)
    assert len(made) == len(missing)
    assert await create_topics(config) == []
    assert await compare_topics(config) == []
    assert (await partition_counts(config))[f"{config.topics.prefix}market.v1"] == 3
    more = config.model_copy(update={"topics": config.topics.model_copy(update={"partitions": 4})})
    assert any(
        "has 3 partitions where the configuration says 4" in sentence
        for sentence in await compare_topics(more)
    )
    assert any("retention.ms=" in sentence for sentence in await compare_topics(config, kept_for_ever=True))
    assert await delete_topics(config) == sorted(made)
    with pytest.raises(KafkaUnavailableError, match="cexdex topics --create"):
        await Publisher(config, name="test").start()


async def test_a_broker_that_is_not_there_is_said_in_one_sentence() -> None:
    with pytest.raises(KafkaUnavailableError, match=r"Kafka does not answer at 127\.0\.0\.1:9; `cexdex up`"):
        await create_topics(on("127.0.0.1:9"))


@pytest.mark.integration
async def test_a_consumer_never_jumps_and_always_ends(machine: Machine) -> None:
    config = on(machine.kafka)
    await create_topics(config)
    market = TopicPartition(topic_name(config.topics.prefix, "market"), 0)
    reader = consumer(config.kafka.servers, group=f"{config.topics.prefix}test")
    await reader.start()
    reader.assign([market])
    assert await committed(reader, [market]) == {market: None}
    assert await beginning_offsets(reader, [market]) == await end_offsets(reader, [market]) == {market: 0}
    reader.seek(market, 99)
    with pytest.raises(OffsetOutOfRangeError):
        await reader.getmany(timeout_ms=5_000)
    await commit(reader, {market: 0})
    assert await committed(reader, [market]) == {market: 0}
    await stop_consumer(reader)
    for _ in range(3):  # aiokafka's own stop() raises CancelledError here
        groupless = consumer(config.kafka.servers)
        await groupless.start()
        groupless.assign([market])
        await stop_consumer(groupless)


async def _all(config: Config, topic: str) -> list[int]:
    """The ordinals of all quotes in a topic, in the order of their partition."""
    reader: AIOKafkaConsumer = consumer(config.kafka.servers)
    await reader.start()
    decode = decoder(*topic_types(topic)).decode
    partitions = [TopicPartition(topic_name(config.topics.prefix, topic), number) for number in range(3)]
    reader.assign(partitions)
    ends = await end_offsets(reader, partitions)
    for partition in partitions:
        reader.seek(partition, 0)
    found: list[int] = []
    while len(found) < sum(ends.values()):
        for records in (await reader.getmany(timeout_ms=500)).values():
            found += [decode(record.value).ordinal for record in records]
    await stop_consumer(reader)
    return found


@pytest.mark.integration
async def test_a_record_that_is_too_large_does_not_hold_the_others_up(machine: Machine) -> None:
    config = on(machine.kafka)
    await create_topics(config)
    publisher = Publisher(config, name="test")
    await publisher.start()
    publisher.publish(quote(0))
    publisher.publish(trade(0, trade_id=os.urandom(1 << 21).hex()))
    publisher.publish(quote(1))
    await publisher.flush()
    assert await publisher.stop() == 0
    assert await _all(config, "market") == [0, 1]
    letters = TopicPartition(topic_name(config.topics.prefix, "dead_letters"), 0)
    reader = consumer(config.kafka.servers)
    await reader.start()
    reader.assign([letters])
    assert await end_offsets(reader, [letters]) == {letters: 1}
    await stop_consumer(reader)


@pytest.mark.integration
@pytest.mark.faults
async def test_nothing_is_lost_or_out_of_order_when_the_broker_is_killed(
    tmp_path: Path, jar_cache: Path
) -> None:
    ports = Ports.free().chosen()
    jars = await asyncio.to_thread(fetch_jars, jar_cache, progress=False)

    def broker() -> Broker:
        return Broker(
            tmp_path / "kafka", jars, port=ports.kafka, controller_port=ports.controller, log=tmp_path / "log"
        )

    first = broker()
    await first.start()
    config = on(first.bootstrap)
    await create_topics(config)
    publisher = Publisher(config, name="test")
    await publisher.start()
    ordinals = itertools.count()

    async def publish_for(seconds: float) -> None:
        for _ in range(int(seconds * 50)):
            for _ in range(5):
                publisher.publish(quote(next(ordinals)))
            await asyncio.sleep(0.02)

    await publish_for(1.0)
    await first.child.stop(0.0)
    await publish_for(3.0)
    second = broker()
    starting = asyncio.create_task(second.start())
    await publish_for(2.0)
    await starting
    await publish_for(1.0)
    await asyncio.wait_for(publisher.flush(), 60)
    assert await publisher.stop() == 0
    found = await _all(config, "market")
    assert sorted(set(found)) == list(range(next(ordinals)))
    firsts = list(dict.fromkeys(found))
    assert firsts == sorted(firsts), "a record came for the first time after a later one"
    await second.stop()


@pytest.mark.integration
async def test_clickhouse_says_what_can_be_tried_again_and_what_cannot(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(
        overrides={"clickhouse": {"url": machine.clickhouse_url, "user": machine.user}}
    ).clickhouse
    monkeypatch.setenv("CEXDEX_CLICKHOUSE_PASSWORD", "wrong")
    with pytest.raises(ClickHouseUnavailableError, match="does not accept the user and password"):
        await Warehouse.open(settings, database="")
    monkeypatch.setenv("CEXDEX_CLICKHOUSE_PASSWORD", machine.password)
    warehouse = await Warehouse.open(settings, database="")
    with pytest.raises(ClickHouseRefusedError) as refused:
        await warehouse.rows("SELECT nothing_of_the_kind")
    assert refused.value.code == 47
    with pytest.raises(ClickHouseRefusedError):
        await warehouse.insert("no_such_table", b'{"a":1}', token="t")
    await warehouse.close()
    away = settings.model_copy(update={"url": "http://127.0.0.1:9"})
    with pytest.raises(ClickHouseUnavailableError, match=r"does not answer at http://127\.0\.0\.1:9"):
        await Warehouse.open(away, database="")


def test_the_password_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cexdex.runtime.clickhouse import password

    monkeypatch.delenv("CEXDEX_CLICKHOUSE_PASSWORD", raising=False)
    settings = load().clickhouse
    assert password(settings) == ""
    file = tmp_path / "password"
    with_file = settings.model_copy(update={"password_file": file})
    with pytest.raises(ClickHouseUnavailableError, match="cannot be read"):
        password(with_file)
    file.write_text("from-a-file\n")
    assert password(with_file) == "from-a-file"
    monkeypatch.setenv("CEXDEX_CLICKHOUSE_PASSWORD", "from-the-environment")
    assert password(with_file) == "from-a-file", (
        "what was set for another instance does not beat its own file"
    )
    assert password(settings) == "from-the-environment"
