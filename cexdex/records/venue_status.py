"""What befell a venue or an instrument."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Micros, Name, Record, record


@record(
    topic="venue_status", key="venue", id=("venue", "instrument", "kind", "started_at"), time="started_at"
)
class VenueStatus(Record, tag="venue_status", frozen=True, kw_only=True, gc=False):
    """An event in a feed's life: open while ended_at is null."""

    market: Name = ""
    venue: Name
    instrument: Name = ""
    """'' when the whole venue is meant."""
    kind: Literal[
        "connected",
        "disconnected",
        "gap",
        "replaced",
        "checksum_failed",
        "stale",
        "slow",
        "halted",
        "outage",
        "reorg",
    ]
    started_at: Micros
    ended_at: Micros | None = None
    reason: str
    lost: int | None = None
    """How many trades or messages were lost; null when unknown."""
