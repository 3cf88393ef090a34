"""Kafka and ClickHouse on one machine: the real parts, started as children of one process, with no Docker."""
