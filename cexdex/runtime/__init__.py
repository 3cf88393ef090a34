"""The machinery that awaits: sockets, HTTP, Kafka, ClickHouse, clock, metrics, children."""
