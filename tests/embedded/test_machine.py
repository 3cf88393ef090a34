"""Kafka and ClickHouse together: they answer, and keep what they were given."""

import clickhouse_connect
import pytest
from aiokafka import AIOKafkaProducer

from embedded.machine import Machine

pytestmark = pytest.mark.integration


async def test_both_answer(machine: Machine) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=machine.kafka)
    await producer.start()
    assert len(producer.client.cluster.brokers()) == 1
    await producer.stop()
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=machine.ports.clickhouse, username=machine.user, password=machine.password
    )
    assert client.query("SELECT 1").result_rows == [(1,)]
