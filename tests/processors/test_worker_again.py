"""A replay is the live run again, and so is a restart at any place."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processors.history import history, play, play_after_restart, text

SLOWLY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


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
    assert text(play_after_restart(made, commit, whole)) == text(whole[commit:])


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
