"""The cexdex.toml that people start from is one that loads."""

from __future__ import annotations

import re

from cexdex.config import load
from tests.house.tree import ROOT


def test_the_settings_that_are_shipped_load() -> None:
    config = load(ROOT / "cexdex.toml")
    assert [rule.rule for rule in config.rules] == ["worth-a-look", "drifting-apart"]
    assert all(rule.clear_bps < rule.enter_bps for rule in config.rules)
    assert [target.kind for target in config.targets] == ["terminal"]


def test_what_is_commented_out_in_them_loads_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = (ROOT / "cexdex.toml").read_text()
    switched_on = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
    assert switched_on != text
    (tmp_path / "cexdex.toml").write_text(switched_on)
    config = load(tmp_path / "cexdex.toml")
    assert config.venues["binance"].taker_fee_bps == 7.5
    assert not config.venues["coinbase"].enabled
    assert config.targets[1].secret_env == "DESK_WEBHOOK_SECRET"
