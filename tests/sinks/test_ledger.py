"""Who is told what."""

from __future__ import annotations

from typing import Any

import msgspec

from cexdex.config import Target
from cexdex.records.alerts import Alert
from sinks.notify.ledger import EXPIRES_US, Ledger
from sinks.notify.message import body, line, sample

SECOND = 1_000_000


def alert(at: int, **changes: Any) -> Alert:
    return msgspec.structs.replace(sample(at), **changes)


def ledger(**settings: Any) -> Ledger:
    return Ledger(Target(target="desk", kind="terminal", **settings))


def test_people_are_told_of_firing_and_its_end_and_not_of_pending() -> None:
    states = {
        state: ledger().decide(alert(1, state=state), 1)
        for state in ("pending", "firing", "resolved", "nodata")
    }
    assert states == {"pending": "ignore", "firing": "deliver", "resolved": "deliver", "nodata": "deliver"}
    assert ledger().decide(alert(1, deliver=False), 1) == "ignore"


def test_a_target_may_want_some_rules_only() -> None:
    assert ledger(rules=["other"]).decide(alert(1), 1) == "ignore"
    assert ledger(rules=["test"]).decide(alert(1), 1) == "deliver"


def test_what_was_delivered_is_not_delivered_again_even_by_another_process() -> None:
    first, second = ledger(), ledger()
    second.recall(first.entry(alert(1), "delivered", now_us=2))
    assert first.decide(alert(1), 3) == second.decide(alert(1), 3) == "ignore"


def test_a_failed_attempt_leaves_it_open_and_the_next_has_the_next_number() -> None:
    desk = ledger()
    failed = desk.entry(alert(1), "failed", now_us=2, error="500", next_at=3)
    assert (failed.attempt, desk.decide(alert(1), 3), desk.attempt(alert(1))) == (1, "deliver", 2)
    assert desk.entry(alert(1), "abandoned", now_us=4).attempt == 2
    assert desk.decide(alert(1), 5) == "ignore"


def test_old_alerts_expire_and_in_a_replay_none_is_old() -> None:
    assert ledger().decide(alert(1), EXPIRES_US + 1) == "deliver"
    assert ledger().decide(alert(1), EXPIRES_US + 2) == "expired"
    replaying = Ledger(Target(target="desk", kind="terminal"), expires=False)
    assert replaying.decide(alert(1), 10**16) == "deliver"


def test_a_flapping_edge_is_told_once_in_its_cooldown_with_the_end_of_what_was_told() -> None:
    desk = ledger(cooldown_s=60)
    told, again = alert(1, alert_id="a"), alert(30 * SECOND, alert_id="b")
    desk.entry(told, "delivered", now_us=1)
    assert desk.decide(again, 30 * SECOND) == "cooldown"
    desk.entry(again, "cooldown", now_us=30 * SECOND)
    assert desk.decide(alert(31 * SECOND, alert_id="b", state="resolved"), 31 * SECOND) == "cooldown"
    assert desk.decide(alert(31 * SECOND, alert_id="a", state="resolved"), 31 * SECOND) == "deliver"
    assert desk.decide(alert(30 * SECOND, edge="x>y"), 30 * SECOND) == "deliver"
    assert desk.decide(alert(61 * SECOND + 1, alert_id="c"), 61 * SECOND + 1) == "deliver"


def test_a_desk_reads_both_venues_the_size_what_is_left_and_the_ages() -> None:
    text = line(alert(1, size="10000"))
    for words in (
        "FIRING test BTC-USD +5.00 bps",
        "buy kraken:BTC-USD at 100",
        "sell binance:BTC-USDT at 100.1",
    ):
        assert words in text
    for words in ("for 10000 USD", "net +5.00 bps", "profit 0.50 USD", "buy 0.00 s", "transfers unknown"):
        assert words in text
    assert "\n" not in text


def test_a_strangers_text_cannot_colour_the_terminal() -> None:
    context = msgspec.structs.replace(sample(1).context, buy="\x1b[31mred\u202e\n", sell="[bold]x[/]")
    told = msgspec.structs.replace(sample(1), context=context, rule="a\x07")
    assert "\\x1b[31mred\\u202e\\x0a" in line(told)
    assert "\x1b" not in line(told) + body(told)
    assert "\x07" not in line(told)
