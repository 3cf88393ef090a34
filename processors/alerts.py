"""When an edge stands above a rule's threshold long enough, falls below it again, or cannot be believed any more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar, Literal

from cexdex.config import Config
from cexdex.domain.fees import bps
from cexdex.domain.hysteresis import size_text, stands
from cexdex.domain.murmur2 import phase_at, phase_of
from cexdex.records.alerts import Alert, AlertContext
from cexdex.records.record import Reason, Record
from cexdex.records.rules import Rule
from cexdex.records.spreads import Spread, SpreadSize

Key = tuple[str, str, str]


class Standing:
    """What is known of one rule on one edge at one size since its value first reached the threshold."""

    __slots__ = (
        "id",
        "peak",
        "said_peak",
        "said_reason",
        "spread",
        "started_at",
        "state",
        "threshold",
        "value",
    )

    def __init__(
        self, id: str, started_at: int, value: float, threshold: float, spread: AlertContext
    ) -> None:
        self.id = id
        self.state: Literal["pending", "firing", "nodata"] = "pending"
        self.started_at = started_at
        self.value: float | None = value
        self.peak = value
        self.said_peak = value
        self.said_reason: Reason | None = None
        self.threshold = threshold
        self.spread = spread


class Alerts:
    """pending → firing → resolved, and nodata while the spread is invalid. Reads spreads and rules, nothing else."""

    reads: ClassVar[tuple[type[Record], ...]] = (Spread, Rule)
    writes: ClassVar[tuple[type[Record], ...]] = (Alert,)
    lookback_us: ClassVar[int] = 120_000_000
    recalls: ClassVar[tuple[type[Record], ...]] = (Alert,)

    def __init__(self, market: str, config: Config) -> None:
        self._market = market
        self._rules: dict[str, Rule] = {}
        self._standing: dict[Key, Standing] = {}
        self._recalled: dict[Key, tuple[int, int]] = {}
        """source_offset and received_at of what was said before: what happened up to there is not judged again."""

    def recall(self, own: Record) -> None:
        if not isinstance(own, Alert):
            return
        key = (own.rule, own.edge, own.size)
        self._standing.pop(key, None)
        if own.state == "pending":
            # It may have ended without a word; if not, it began within the lookback and begins there again.
            return
        self._recalled[key] = (own.source_offset, own.received_at)
        if own.state in ("firing", "nodata"):
            standing = Standing(own.alert_id, own.started_at, 0.0, own.threshold, own.context)
            standing.state = own.state
            standing.value = own.value
            standing.peak = standing.said_peak = own.threshold if own.peak is None else own.peak
            standing.said_reason = own.reason
            self._standing[key] = standing

    def on(self, record: Record, offset: int, now: int) -> Iterator[Record]:
        if isinstance(record, Spread):
            for rule in self._rules.values():
                if rule.enabled and watches(rule, record):
                    yield from self._judge(rule, record, offset, now)
        elif isinstance(record, Rule):
            self._rules[record.rule] = record
            self._rules = dict(sorted(self._rules.items()))
            yield from self._end_unwatched(record, offset, now)

    def on_time(self, now: int, offset: int) -> Iterator[Record]:
        for key in sorted(self._standing):
            standing, rule = self._standing[key], self._rules.get(key[0])
            if rule is None or self._was_judged(key, offset, now):
                continue
            if standing.state == "pending" and now - standing.started_at >= rule.for_us:
                standing.state = "firing"
                yield self._alert(key, standing, "firing", None, offset, now)
            elif (
                standing.state == "firing"
                and standing.peak > standing.said_peak
                and phase_at(now) == phase_of(key[1])
            ):
                # Told to Kafka only, so that a restart forgets no peak.
                yield self._alert(key, standing, "firing", None, offset, now, deliver=False)

    def _judge(self, rule: Rule, spread: Spread, offset: int, now: int) -> Iterator[Record]:
        key = (rule.rule, spread.edge, size_text(rule.notional_usd))
        if self._was_judged(key, offset, now):
            return
        value, reason = value_of(rule, spread)
        standing = self._standing.get(key)
        if standing is not None:
            standing.spread = context_of(rule, spread)
        if value is None:
            if standing is not None:
                yield from self._doubt(key, standing, reason, offset, now)
            return
        stood = standing is not None and standing.state != "pending"
        if not stands(value, stood=stood, enter=rule.enter_bps, clear=rule.clear_bps):
            if standing is not None:
                yield from self._end(key, standing, value, offset, now)
            return
        if standing is None:
            yield from self._begin(key, rule, spread, value, offset, now)
            return
        standing.value, standing.peak = value, max(standing.peak, value)
        if standing.state == "nodata":
            standing.state = "firing"
            yield self._alert(key, standing, "firing", None, offset, now, deliver=False)
        elif standing.state == "pending" and now - standing.started_at >= rule.for_us:
            standing.state = "firing"
            yield self._alert(key, standing, "firing", None, offset, now)

    def _begin(
        self, key: Key, rule: Rule, spread: Spread, value: float, offset: int, now: int
    ) -> Iterator[Record]:
        standing = Standing(alert_id(key, now), now, value, rule.enter_bps, context_of(rule, spread))
        self._standing[key] = standing
        if rule.for_us == 0:
            standing.state = "firing"
        yield self._alert(key, standing, standing.state, None, offset, now)

    def _doubt(
        self, key: Key, standing: Standing, reason: Reason | None, offset: int, now: int
    ) -> Iterator[Record]:
        """An invalid spread ends a pending silently, and says of a firing that nothing is known."""
        if standing.state == "pending":
            del self._standing[key]
        elif standing.state == "firing":
            standing.state, standing.value = "nodata", None
            yield self._alert(key, standing, "nodata", reason, offset, now)

    def _end(self, key: Key, standing: Standing, value: float, offset: int, now: int) -> Iterator[Record]:
        del self._standing[key]
        if standing.state != "pending":
            standing.value = value
            yield self._alert(key, standing, "resolved", None, offset, now)

    def _end_unwatched(self, rule: Rule, offset: int, now: int) -> Iterator[Record]:
        """What a changed, disabled or removed rule does not watch any more is over."""
        for key in sorted(self._standing):
            standing = self._standing[key]
            if key[0] != rule.rule or self._was_judged(key, offset, now):
                continue
            watched = rule.enabled and _watches(rule, self._market, standing.spread.buy, standing.spread.sell)
            if watched and key[2] == size_text(rule.notional_usd):
                continue
            del self._standing[key]
            if standing.state != "pending":
                yield self._alert(key, standing, "resolved", None, offset, now)

    def _was_judged(self, key: Key, offset: int, now: int) -> bool:
        recalled = self._recalled.get(key)
        if recalled is None:
            return False
        if offset <= recalled[0] and now <= recalled[1]:
            return True
        del self._recalled[key]
        return False

    def _alert(
        self,
        key: Key,
        standing: Standing,
        state: Literal["pending", "firing", "resolved", "nodata"],
        reason: Reason | None,
        offset: int,
        now: int,
        *,
        deliver: bool = True,
    ) -> Alert:
        standing.said_peak = standing.peak
        rule, edge, size = key
        return Alert(
            received_at=now,
            market=self._market,
            source_offset=offset,
            alert_id=standing.id,
            rule=rule,
            edge=edge,
            size=size,
            state=state,
            reason=reason,
            value=standing.value,
            threshold=standing.threshold,
            peak=standing.peak,
            started_at=standing.started_at,
            deliver=deliver,
            context=standing.spread,
        )


PROCESSOR = Alerts


def alert_id(key: Key, pending_at: int) -> str:
    """The same after every restart and in every replay."""
    return hashlib.sha256("|".join((*key, str(pending_at))).encode()).hexdigest()[:32]


def watches(rule: Rule, spread: Spread) -> bool:
    return _watches(rule, spread.market, spread.buy, spread.sell)


def value_of(rule: Rule, spread: Spread) -> tuple[float | None, Reason | None]:
    """What the rule compares, or why there is nothing that could be believed."""
    if not spread.valid:
        return None, spread.reason
    if rule.notional_usd is None:
        if rule.basis == "gross":
            return spread.gross_bps, "no_rate"
        return (spread.net_converted_bps if rule.converted else spread.net_bps), "no_rate"
    size = _size_of(rule, spread)
    if size is None:
        return None, "insufficient_depth"
    if rule.basis == "net":
        return (size.net_converted_bps if rule.converted else size.net_bps), size.reason or "no_rate"
    if size.buy_vwap is None or size.sell_vwap is None or spread.buy_rate is None or spread.sell_rate is None:
        return None, size.reason or "no_rate"
    return bps(size.sell_vwap * spread.sell_rate, size.buy_vwap * spread.buy_rate), None


def context_of(rule: Rule, spread: Spread) -> AlertContext:
    size = _size_of(rule, spread)
    return AlertContext(
        buy=spread.buy,
        sell=spread.sell,
        buy_price=spread.buy_price,
        sell_price=spread.sell_price,
        buy_vwap=None if size is None else size.buy_vwap,
        sell_vwap=None if size is None else size.sell_vwap,
        gross_bps=spread.gross_bps,
        net_bps=spread.net_bps if size is None else size.net_bps,
        net_converted_bps=spread.net_converted_bps if size is None else size.net_converted_bps,
        conversion_bps=spread.conversion_bps,
        profit_usd=None if size is None else size.profit_usd,
        deviation_bps=spread.deviation_bps,
        buy_age_us=spread.buy_age_us,
        sell_age_us=spread.sell_age_us,
        rate_age_us=spread.rate_age_us,
        rate_state=spread.rate_state,
        spread_received_at=spread.received_at,
        spread_ordinal=spread.ordinal,
    )


def _size_of(rule: Rule, spread: Spread) -> SpreadSize | None:
    return next((size for size in spread.sizes if size.notional_usd == rule.notional_usd), None)


def _watches(rule: Rule, market: str, buy: str, sell: str) -> bool:
    if rule.markets and market not in rule.markets:
        return False
    return not rule.venues or (buy.split(":")[0] in rule.venues and sell.split(":")[0] in rule.venues)
