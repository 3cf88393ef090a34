"""pending, firing, resolved, nodata: once each, and never twice after a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cexdex.domain.murmur2 import phase_of
from cexdex.records.rules import Rule
from cexdex.records.spreads import Spread, SpreadSize
from processors.alerts import Alerts, alert_id
from processors.rules import rules_to_say
from tests.processors.market import T0, S, config

EDGE = "kraken:BTC-USD>coinbase:BTC-USD"


def rule(**fields: Any) -> Rule:
    return Rule(
        **{
            "received_at": T0,
            "rule": "r",
            "markets": [],
            "venues": [],
            "notional_usd": None,
            "basis": "net",
            "converted": True,
            "enter_bps": 10,
            "clear_bps": 5,
            "for_us": 0,
            "enabled": True,
            "effective_at": T0,
            **fields,
        }
    )


def spread(value: float | None, *, reason: Any = None, **fields: Any) -> Spread:
    buy, sell = EDGE.split(">")
    return Spread(
        **{
            "received_at": T0,
            "market": "BTC-USD",
            "source_offset": 0,
            "edge": EDGE,
            "ordinal": 0,
            "buy": buy,
            "sell": sell,
            "buy_price": 100.0,
            "sell_price": 101.0,
            "buy_size": 1.0,
            "sell_size": 1.0,
            "buy_rate": 1.0,
            "sell_rate": 0.5,
            "buy_fee_bps": 0.0,
            "sell_fee_bps": 0.0,
            "fixed_cost_usd": 0.0,
            "raw_bps": None,
            "gross_bps": None if value is None else value + 2000,
            "net_bps": None if value is None else value + 1000,
            "conversion_bps": 1000.0,
            "net_converted_bps": value,
            "deviation_bps": None,
            "rate_state": "live",
            "sizes": [],
            "buy_age_us": 0,
            "sell_age_us": 0,
            "rate_age_us": 0,
            "buy_quote_session": 1,
            "buy_quote_ordinal": 1,
            "buy_book_session": 1,
            "buy_book_ordinal": 1,
            "buy_ladder_age_us": 0,
            "sell_quote_session": 1,
            "sell_quote_ordinal": 1,
            "sell_book_session": 1,
            "sell_book_ordinal": 1,
            "sell_ladder_age_us": 0,
            "valid": reason is None,
            "reason": reason,
            **fields,
        }
    )


def told(
    alerts: Alerts, *happened: Any, at: int = T0, offset: int = 0
) -> list[tuple[str, float | None, Any]]:
    """State, value and time since T0 of each alert; a number is a value, a string a reason, and so on."""
    return [
        (a.state, a.value, (a.received_at - T0) // S) for a in said(alerts, *happened, at=at, offset=offset)
    ]


def said(alerts: Alerts, *happened: Any, at: int = T0, offset: int = 0) -> list[Any]:
    found: list[Any] = []
    for number, what in enumerate(happened):
        now = at + number * S
        if isinstance(what, Rule | Spread):
            found += alerts.on(what, offset + number, now)
        elif isinstance(what, str):
            found += alerts.on(spread(None, reason=what), offset + number, now)
        elif what is None:
            found += alerts.on_time(now, offset + number)
        else:
            found += alerts.on(spread(what), offset + number, now)
    return found


def watching(**fields: Any) -> Alerts:
    alerts = Alerts("BTC-USD", config())
    assert list(alerts.on(rule(**fields), 0, T0)) == []
    return alerts


def test_it_fires_at_the_threshold_and_resolves_below_the_lower_one() -> None:
    assert told(watching(), 9.9, 10, 12, 5, 4.9, 9, 10) == [
        ("firing", 10, 1),
        ("resolved", 4.9, 4),
        ("firing", 10, 6),
    ]


def test_it_must_stand_for_a_time_and_time_alone_is_enough() -> None:
    held = {"for_us": 2 * S}
    assert told(watching(**held), 10, 11, 9.9, 10) == [("pending", 10, 0), ("pending", 10, 3)]
    assert told(watching(**held), 10, 11, 12) == [("pending", 10, 0), ("firing", 12, 2)]
    assert told(watching(**held), 10, None, None) == [("pending", 10, 0), ("firing", 10, 2)]


def test_all_states_of_one_alert_share_an_id_that_anybody_can_compute() -> None:
    found = said(watching(for_us=S), 10, 11, "gap", 12, 1)
    assert {alert.alert_id for alert in found} == {alert_id(("r", EDGE, "touch"), T0)}
    assert {alert.started_at for alert in found} == {T0}
    [other] = said(watching(), 10, at=T0 + 1)
    assert other.alert_id != found[0].alert_id


def test_an_invalid_spread_ends_a_pending_silently() -> None:
    assert told(watching(for_us=2 * S), 10, "gap", None, None, 10) == [("pending", 10, 0), ("pending", 10, 4)]


def test_an_invalid_spread_turns_firing_into_nodata_with_its_reason() -> None:
    found = said(watching(), 20, "gap", "stale_leg", 6)
    assert [(a.state, a.reason, a.value, a.deliver) for a in found] == [
        ("firing", None, 20, True),
        ("nodata", "gap", None, True),
        ("firing", None, 6, False),
    ]


def test_valid_again_and_below_it_resolves() -> None:
    assert told(watching(), 20, "gap", 4) == [("firing", 20, 0), ("nodata", None, 1), ("resolved", 4, 2)]


def test_the_peak_is_the_greatest_value_it_had() -> None:
    [_, resolved] = said(watching(), 12, 30, 20, 1)
    assert (resolved.peak, resolved.value) == (30, 1)


@pytest.mark.parametrize("gone", [{"enabled": False}, {"markets": ["ETH-USD"]}, {"venues": ["kraken"]}])
def test_a_rule_that_does_not_watch_any_more_resolves(gone: dict[str, Any]) -> None:
    assert told(watching(), 20, rule(**gone), 20) == [("firing", 20, 0), ("resolved", 20, 1)]
    assert told(watching(for_us=S), 20, rule(**gone), None) == [("pending", 20, 0)]


def test_only_the_markets_and_venues_it_names() -> None:
    assert told(watching(markets=["ETH-USD"]), 20) == []
    assert told(watching(venues=["kraken"]), 20) == []
    assert told(watching(venues=["kraken", "coinbase"], markets=["BTC-USD"]), 20) == [("firing", 20, 0)]


@pytest.mark.parametrize(
    ("fields", "value"),
    [({}, 20), ({"converted": False}, 1020), ({"basis": "gross"}, 2020)],
)
def test_what_is_compared_at_the_touch(fields: dict[str, Any], value: float) -> None:
    [alert] = said(watching(**fields), 20)
    assert (alert.value, alert.size) == (value, "touch")


@pytest.mark.parametrize(
    ("fields", "value"),
    [({}, 20), ({"converted": False}, 30), ({"basis": "gross"}, 100)],
)
def test_what_is_compared_at_a_size(fields: dict[str, Any], value: float) -> None:
    size = SpreadSize(
        notional_usd=1000.0,
        buy_vwap=100.0,
        sell_vwap=202.0,
        net_bps=30.0,
        net_converted_bps=20.0,
        profit_usd=3.0,
        reason=None,
    )
    [alert] = said(watching(notional_usd=1000.0, **fields), spread(0, sizes=[size]))
    assert alert.value == pytest.approx(value)
    assert (alert.size, alert.context.profit_usd, alert.context.buy_vwap) == ("1000", 3.0, 100.0)


def test_a_size_that_cannot_be_filled_is_no_data() -> None:
    good = SpreadSize(
        notional_usd=1000.0,
        buy_vwap=1.0,
        sell_vwap=1.0,
        net_bps=30.0,
        net_converted_bps=20.0,
        profit_usd=1.0,
        reason=None,
    )
    thin = msgspec.structs.replace(good, net_bps=None, net_converted_bps=None, reason="insufficient_depth")
    found = said(watching(notional_usd=1000.0), spread(0, sizes=[good]), spread(0, sizes=[thin]))
    assert [(a.state, a.reason) for a in found] == [("firing", None), ("nodata", "insufficient_depth")]


def test_after_a_restart_what_fired_is_firing_and_not_said_again() -> None:
    before = watching()
    [firing] = said(before, 12, 15, 14, offset=7)
    after = Alerts("BTC-USD", config())
    after.recall(firing)
    list(after.on(rule(), 0, T0))
    assert told(after, 12, 15, 14, offset=7) == []
    assert told(after, 1, at=T0 + 3 * S, offset=10) == told(before, 1, at=T0 + 3 * S, offset=10)


def test_after_a_restart_what_was_resolved_may_fire_anew() -> None:
    [_, resolved] = said(watching(), 12, 1, offset=7)
    after = Alerts("BTC-USD", config())
    after.recall(resolved)
    list(after.on(rule(), 0, T0))
    assert told(after, 12, 1, 13, offset=7) == [("firing", 13, 2)]


def test_an_old_pending_that_is_recalled_does_not_fire_by_its_age() -> None:
    [pending] = said(watching(for_us=5 * S), 12)
    after = Alerts("BTC-USD", config())
    after.recall(pending)
    list(after.on(rule(for_us=5 * S), 0, T0))
    assert told(after, None, 12, at=T0 + 300 * S, offset=900) == [("pending", 12, 301)]


def test_a_peak_is_told_to_kafka_at_the_edges_point_and_to_nobody_else() -> None:
    alerts = watching()
    said(alerts, 12, 30)
    point = T0 + 10 * S + phase_of(EDGE) * 100_000
    assert list(alerts.on_time(point - 100_000, 5)) == []
    [kept] = alerts.on_time(point, 5)
    assert isinstance(kept, msgspec.Struct)
    assert (kept.state, kept.peak, kept.deliver) == ("firing", 30, False)  # type: ignore[attr-defined]
    assert list(alerts.on_time(point + 10 * S, 5)) == []


def test_rules_are_said_when_they_differ_and_removed_ones_are_disabled() -> None:
    wanted = config(
        rules=[
            {"rule": "same", "enter_bps": 1, "clear_bps": 0},
            {"rule": "new", "enter_bps": 2, "clear_bps": 0},
        ]
    ).rules
    stands = {r.rule: r for r in rules_to_say(wanted[:1], {}, T0, T0 + 5 * S)}
    stands["gone"] = rule(rule="gone")
    found = rules_to_say(wanted, stands, T0 + S, T0 + 6 * S)
    assert [(r.rule, r.enabled, r.effective_at) for r in found] == [
        ("gone", False, T0 + 6 * S),
        ("new", True, T0 + 6 * S),
    ]
    assert rules_to_say(wanted, {**stands, **{r.rule: r for r in found}}, T0, T0) == []
