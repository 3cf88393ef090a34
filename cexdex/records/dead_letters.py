"""What could not be read."""

from __future__ import annotations

from cexdex.records.record import Name, Record, record


@record(topic="dead_letters", key="origin", id=("origin", "received_at", "sha256"), keep_days=14)
class DeadLetter(Record, tag="dead_letters", frozen=True, kw_only=True, gc=False):
    """A frame or a Kafka value that is not what it should be, kept so that it can be looked at."""

    origin: Name
    """`venue/connection`, or `topic/partition` of a Kafka value."""
    venue: Name = ""
    connection: str = ""
    topic: Name = ""
    partition: int | None = None
    offset: int | None = None
    error: str
    payload: str
    """The first 64 KiB, base64."""
    length: int
    sha256: str
