"""Who was told what: decides for one target whether an alert is delivered, and remembers the attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cexdex.config import Target
from cexdex.records.alert_deliveries import AlertDelivery
from cexdex.records.alerts import Alert
from sinks.notify.message import webhook_id

EXPIRES_US = 300_000_000
Decision = Literal["deliver", "ignore", "expired", "cooldown"]
REMEMBERED = 100_000


@dataclass(slots=True)
class _Told:
    attempts: int
    finished: bool


class Ledger:
    """One target's memory. It is filled from alert_deliveries, so that a restart forgets nothing."""

    def __init__(self, target: Target, *, expires: bool = True) -> None:
        self._target = target
        self._expires = expires
        self._told: dict[str, _Told] = {}
        self._suppressed: set[str] = set()
        self._last_message: dict[tuple[str, str, str], int] = {}

    def recall(self, delivery: AlertDelivery) -> None:
        """Takes note of an attempt, made now or before a restart."""
        if delivery.target != self._target.target:
            return
        told = self._told.setdefault(delivery.webhook_id, _Told(0, False))
        told.attempts = max(told.attempts, delivery.attempt)
        told.finished = told.finished or delivery.next_at is None
        if delivery.status == "cooldown":
            self._suppressed.add(delivery.alert_id)
        if delivery.status == "delivered":
            key = (delivery.rule, delivery.edge, delivery.size)
            self._last_message[key] = max(self._last_message.get(key, 0), delivery.received_at)
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]

    def decide(self, alert: Alert, now_us: int) -> Decision:
        """Whether this alert is for people, still news, and not the same once more."""
        if alert.state == "pending" or not alert.deliver:
            return "ignore"
        if self._target.rules and alert.rule not in self._target.rules:
            return "ignore"
        told = self._told.get(webhook_id(alert))
        if told is not None and told.finished:
            return "ignore"
        if self._expires and now_us - alert.received_at > EXPIRES_US:
            return "expired"
        if alert.state != "firing":
            # The end of what nobody was told of is not told either.
            return "cooldown" if alert.alert_id in self._suppressed else "deliver"
        last = self._last_message.get((alert.rule, alert.edge, alert.size))
        if last is not None and 0 < alert.received_at - last < self._target.cooldown_s * 1e6:
            return "cooldown"
        return "deliver"

    def attempt(self, alert: Alert) -> int:
        """The number of the next attempt, from 1."""
        told = self._told.get(webhook_id(alert))
        return 1 if told is None else told.attempts + 1

    def entry(
        self,
        alert: Alert,
        status: Literal["delivered", "failed", "expired", "cooldown", "abandoned"],
        *,
        now_us: int,
        error: str | None = None,
        next_at: int | None = None,
    ) -> AlertDelivery:
        """The record of what became of an attempt; noted here too."""
        delivery = AlertDelivery(
            event_time=None,
            received_at=alert.received_at,
            alert_id=alert.alert_id,
            webhook_id=webhook_id(alert),
            target=self._target.target,
            attempt=self.attempt(alert),
            rule=alert.rule,
            edge=alert.edge,
            size=alert.size,
            status=status,
            error=error,
            sent_at=now_us,
            next_at=next_at,
        )
        self.recall(delivery)
        return delivery
