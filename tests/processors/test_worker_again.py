"""A replay is the live run again, and so is a restart at any place."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cexdex.records.alerts import Alert
from cexdex.records.record import encode
from tests.processors.history import history, play, play_after_restart, text

SLOWLY = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@SLOWLY
@given(seed=st.integers(0, 10_000))
def test_the_same_records_give_the_same_bytes(seed: int) -> None:
    made = history(seed, seconds=40)
    assert text(play(made)) == text(play(made))


@SLOWLY
@given(seed=st.integers(0, 10_000), where=st.floats(0.5, 1))
def test_a_restart_anywhere_says_what_would_have_been_said(seed: int, where: float) -> None:
    made = history(seed)
    whole = play(made)
    commit = max(1, int(where * (len(made.market) - 1)))
    assert text(play_after_restart(made, commit, whole[:commit])) == text(whole[commit:])


@SLOWLY
@given(seed=st.integers(0, 10_000), where=st.floats(0.5, 1), ahead=st.integers(1, 40))
def test_what_was_sent_beyond_the_commit_is_sent_again_or_known(seed: int, where: float, ahead: int) -> None:
    made = history(seed)
    whole = play(made)
    commit = max(1, int(where * (len(made.market) - 1)))
    sent = whole[: commit + ahead]
    again = play_after_restart(made, commit, sent)
    missing = {encode(r) for outputs in whole[commit:] for r in outputs} - {
        encode(r) for outputs in again for r in outputs
    }
    assert missing <= {encode(r) for outputs in sent for r in outputs if isinstance(r, Alert)}
    assert {encode(r) for outputs in again for r in outputs} <= {
        encode(r) for outputs in whole[commit:] for r in outputs
    }


def test_the_made_up_history_has_everything_that_could_be_forgotten() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(3):
        for outputs in play(history(seed)):
            for record in outputs:
                kind = type(record).__name__
                kinds[f"{kind} {getattr(record, 'state', getattr(record, 'reason', ''))}"] += 1
    for wanted in (
        "Alert pending", "Alert firing", "Alert resolved", "Alert nodata", "Spread None", "Spread stale_leg",
        "Spread gap", "Candle ", "Consolidated ", "Liquidity None",
    ):  # fmt: skip
        assert kinds[wanted] > 0, (wanted, kinds)
