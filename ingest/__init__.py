"""From venues to Kafka: feeds are pure, only the runner awaits."""
