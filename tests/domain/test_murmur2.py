"""Kafka's hash, as Java's producer computes it."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from cexdex.domain.murmur2 import murmur2, partition_of, phase_at, phase_of


@pytest.mark.parametrize(
    ("key", "hash"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_numbers_of_kafkas_own_test(key: bytes, hash: int) -> None:
    assert murmur2(key) == hash


@given(st.binary(max_size=40), st.integers(1, 64))
def test_every_producer_chooses_the_same_partition(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == DefaultPartitioner()(key, list(range(partitions)), [])


def test_a_name_has_one_point_in_each_ten_seconds() -> None:
    points = [now for now in range(0, 10_000_000, 100_000) if phase_at(now) == phase_of("kraken:BTC-USD")]
    assert len(points) == 1
    assert phase_at(points[0] + 10_000_000) == phase_of("kraken:BTC-USD")
