"""An attempt to tell somebody of an alert."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Micros, Name, Record, record


@record(topic="alert_deliveries", key="alert_id", id=("webhook_id", "target", "attempt"), time="received_at")
class AlertDelivery(Record, tag="alert_deliveries", frozen=True, kw_only=True, gc=False):
    """One attempt at one target; received_at is the alert's own, so that an attempt never changes its day."""

    alert_id: str
    webhook_id: str
    """Of alert_id, state and received_at: the same for every attempt and after every restart."""
    target: Name
    attempt: int
    rule: Name
    edge: Name
    size: Name
    status: Literal["delivered", "failed", "expired", "cooldown", "abandoned"]
    error: str | None
    sent_at: Micros
    next_at: Micros | None
    """When the next attempt is due; null when there is none."""
