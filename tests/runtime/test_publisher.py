"""The queue in front of Kafka: order, batches, errors, a full queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, OutOfOrderSequenceNumber

from cexdex.config import Config, load
from cexdex.records.record import Record, decoder, topic_types
from cexdex.runtime import publisher as module
from cexdex.runtime.publisher import Publisher
from tests.runtime.fake_broker import Broker
from tests.sinks.samples import AT, any_record, quote, trade

decode = decoder(*topic_types("market")).decode
PLACE = ("cexdex.market.v1", 1)
"""Where BTC-USD lives among four partitions."""
Make = Callable[..., Any]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()

    async def counts(config: Config) -> dict[str, int]:
        from cexdex.runtime.topics import topics

        return {topic.name: topic.partitions for topic in topics(config)}

    monkeypatch.setattr(module, "AIOKafkaProducer", broker)
    monkeypatch.setattr(module, "partition_counts", counts)
    return broker


@pytest.fixture
async def make(broker: Broker) -> AsyncIterator[Make]:
    made: list[Publisher] = []

    async def start(**settings: Any) -> Publisher:
        publisher = Publisher(load(overrides={"topics": {"partitions": 4}}), name="test", **settings)
        await publisher.start()
        made.append(publisher)
        return publisher

    yield start
    broker.answer()
    for publisher in made:
        await publisher.stop(within_s=0.5)


def market(broker: Broker) -> list[Record]:
    """What arrived in the partition of BTC-USD, in its order."""
    return [decode(record.value) for record in broker.log.get(PLACE, [])]


async def test_what_one_turn_of_the_loop_brings_leaves_as_one_batch_in_its_order(
    broker: Broker, make: Make
) -> None:
    publisher = await make()
    for number in range(100):
        publisher.publish(quote(number))
    await publisher.flush()
    assert [record.ordinal for record in market(broker)] == list(range(100))  # type: ignore[attr-defined]
    assert broker.batches == [(PLACE, 100)]
    stamps = [record.published_at for record in market(broker)]
    assert stamps == sorted(stamps)
    assert stamps[0] > AT


async def test_the_key_chooses_the_partition_as_java_does_and_the_type_is_a_header(
    broker: Broker, make: Make
) -> None:
    publisher = await make()
    publisher.publish(quote(0, market="BTC-USD"))
    publisher.publish(trade(0, market="ETH-USD"))
    publisher.publish(any_record("alerts"))
    await publisher.flush()
    from aiokafka.partitioner import DefaultPartitioner

    places = {record.key: place for place, records in broker.log.items() for record in records}
    for key in (b"BTC-USD", b"ETH-USD"):
        assert places[key] == ("cexdex.market.v1", DefaultPartitioner()(key, [0, 1, 2, 3], []))
    assert places[b"text|text|text"] == ("cexdex.alerts.v1", 0)
    headers = {record.headers[0] for records in broker.log.values() for record in records}
    assert headers == {("type", b"quote"), ("type", b"trade"), ("type", b"alerts")}


async def test_the_producer_is_idempotent_and_waits_for_all(broker: Broker, make: Make) -> None:
    await make()
    assert broker.settings["enable_idempotence"]
    assert (broker.settings["acks"], broker.settings["linger_ms"], broker.settings["compression_type"]) == (
        "all",
        0,
        "lz4",
    )


@pytest.mark.parametrize("error", [OutOfOrderSequenceNumber(), KafkaConnectionError(), RuntimeError("odd")])
async def test_after_any_error_everything_unacknowledged_goes_again_in_order(
    broker: Broker, make: Make, error: Exception
) -> None:
    publisher = await make()
    broker.errors = [error]
    for number in range(5):
        publisher.publish(quote(number))
        await asyncio.sleep(0)
    await publisher.flush()
    assert [record.ordinal for record in market(broker)] == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]
    assert broker.producers == 2


async def test_a_record_that_kafka_refuses_becomes_a_dead_letter_and_the_others_arrive(
    broker: Broker, make: Make
) -> None:
    publisher = await make()
    broker.refuses = lambda record: MessageSizeTooLargeError() if b'"ordinal":2,' in record.value else None
    for number in range(5):
        publisher.publish(quote(number))
    await publisher.flush()
    assert [record.ordinal for record in market(broker)] == [0, 1, 3, 4]  # type: ignore[attr-defined]
    [letter] = broker.log[("cexdex.dead_letters.v1", 0)]
    fields = msgspec.json.decode(letter.value)
    assert fields["error"] == "Kafka refused it: MessageSizeTooLargeError"
    assert fields["origin"] == "cexdex.market.v1/1"


async def test_flush_waits_for_the_acknowledgement_and_stop_does_not_wait_for_ever(
    broker: Broker, make: Make
) -> None:
    publisher = await make()
    broker.hold = True
    publisher.publish(quote(0))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(publisher.flush(), 0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await publisher.stop(within_s=0.2) == 1
    assert loop.time() - began < 7


async def test_a_full_queue_that_waits_lets_its_caller_wait(broker: Broker, make: Make) -> None:
    publisher = await make(limit=3)
    broker.hold = True
    for number in range(3):
        publisher.publish(trade(number))
    assert publisher.full
    waiting = asyncio.create_task(publisher.room())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    broker.answer()
    await waiting
    assert [record.trade_id for record in market(broker)] == ["0", "1", "2"]  # type: ignore[attr-defined]


async def test_a_full_thin_queue_keeps_the_newest_quote_and_counts_the_trades_it_drops(
    broker: Broker, make: Make
) -> None:
    publisher = await make(limit=10, on_full="thin")
    broker.hold = True
    publisher.publish(trade(0))
    await asyncio.sleep(0.05)  # now in flight; all that follows waits
    for number in range(40):
        publisher.publish(quote(number))
        publisher.publish(trade(number + 1, at=AT + number))
    publisher.publish(quote(40, state="stale", reason="gap"))
    publisher.publish(trade(99, origin="recovery"))
    publisher.publish(trade(98, block_hash="0xab", block_number=1))
    publisher.publish(quote(41))
    assert publisher.take_gaps() == []
    broker.answer()
    await publisher.flush()
    quotes = [record.ordinal for record in market(broker) if hasattr(record, "ordinal")]
    trades = [record.trade_id for record in market(broker) if hasattr(record, "trade_id")]
    assert quotes[-2:] == [40, 41]
    assert len(quotes) < 12
    assert trades[-2:] == ["99", "98"]
    [gap] = publisher.take_gaps()
    assert (gap.kind, gap.instrument, gap.venue) == ("gap", "binance:BTC-USDT", "binance")
    assert gap.lost == 41 - (len(trades) - 2)
    assert gap.started_at <= gap.ended_at == gap.received_at
    assert publisher.take_gaps() == []


async def test_the_queue_knows_its_length_also_after_dropping(broker: Broker, make: Make) -> None:
    publisher = await make(limit=4, on_full="thin")
    broker.hold = True
    for number in range(50):
        publisher.publish(quote(number))
    assert publisher._records <= 5
    broker.answer()
    await publisher.flush()
    assert (publisher._records, publisher._bytes) == (0, 0)


async def test_a_producer_that_cannot_connect_is_said_in_one_sentence(broker: Broker) -> None:
    from cexdex.runtime.kafka import KafkaUnavailableError

    broker.away = True
    publisher = Publisher(load(), name="test")
    with pytest.raises(KafkaUnavailableError, match=r"does not answer at 127\.0\.0\.1:9092"):
        await publisher.start(within_s=0.3)
