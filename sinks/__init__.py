"""From Kafka to people and tables: insert, then commit."""
