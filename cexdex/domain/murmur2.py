"""Kafka's hash: which partition a key is on, and at which point of ten seconds an id is published."""

from __future__ import annotations

from functools import lru_cache

POINT_US = 100_000
"""The grid of stream time at which conflated output leaves."""
POINTS = 100
"""How many points there are in the ten seconds over which ids are spread."""


def murmur2(key: bytes) -> int:
    """The 32-bit hash of Java's `Utils.murmur2`, as a signed integer like there."""
    mixed = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        word = (word ^ word >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        mixed = (mixed * 0x5BD1E995 & 0xFFFFFFFF) ^ word
    if whole < len(key):
        mixed = (mixed ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return mixed - (1 << 32) if mixed >= 1 << 31 else mixed


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=65536)
def phase_of(id: str) -> int:
    """Which of the hundred points of ten seconds is an id's own, so that they do not all fall at once."""
    return (murmur2(id.encode()) & 0x7FFFFFFF) % POINTS


def phase_at(now: int) -> int:
    """Which of the hundred points of ten seconds `now` (a multiple of 100 ms) is."""
    return now // POINT_US % POINTS
