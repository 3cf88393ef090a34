"""Alert rules from the configuration into the topic, where every worker reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cexdex.config import Rule as ConfiguredRule
from cexdex.records.rules import Rule


def rules_to_say(
    configured: Iterable[ConfiguredRule], stands: Mapping[str, Rule], now: int, effective_at: int
) -> list[Rule]:
    """The rules that are new or changed against those that stand, and those that are gone, as not enabled."""
    wanted = {rule.rule: _record(rule, now, effective_at) for rule in configured}
    changed = [
        rule
        for name, rule in wanted.items()
        if name not in stands or _content(rule) != _content(stands[name])
    ]
    gone = [
        msgspec.structs.replace(
            rule, received_at=now, published_at=0, enabled=False, effective_at=effective_at
        )
        for name, rule in stands.items()
        if name not in wanted and rule.enabled
    ]
    return sorted([*changed, *gone], key=lambda rule: rule.rule)


def _record(rule: ConfiguredRule, now: int, effective_at: int) -> Rule:
    return Rule(
        received_at=now,
        rule=rule.rule,
        markets=rule.markets,
        venues=rule.venues,
        notional_usd=rule.notional_usd,
        basis=rule.basis,
        converted=rule.converted,
        enter_bps=rule.enter_bps,
        clear_bps=rule.clear_bps,
        for_us=round(rule.for_s * 1_000_000),
        enabled=rule.enabled,
        effective_at=effective_at,
    )


def _content(rule: Rule) -> Rule:
    return msgspec.structs.replace(rule, received_at=0, published_at=0, effective_at=0)
