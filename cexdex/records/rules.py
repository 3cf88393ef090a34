"""An alert rule as it stands."""

from __future__ import annotations

from typing import Literal

from cexdex.records.record import Bps, Micros, Name, Record, record


@record(topic="rules", key="rule", id="rule", compact=True, dateless=True)
class Rule(Record, tag="rules", frozen=True, kw_only=True, gc=False):
    """A threshold on spreads; a removed rule stays with enabled = false."""

    rule: Name
    markets: list[str]
    """Empty: every market."""
    venues: list[str]
    """Empty: every venue; else both legs must be on one of these."""
    notional_usd: float | None
    """One of the configured notionals; null: at the touch."""
    basis: Literal["net", "gross"]
    converted: bool
    """Whether what turning one quote asset into the other costs is counted (net only)."""
    enter_bps: Bps
    clear_bps: Bps
    for_us: int
    """How long it must stand at or above enter_bps before it fires."""
    enabled: bool
    effective_at: Micros
