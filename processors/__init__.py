"""From Kafka to Kafka: one file a metric, found by discovery."""
