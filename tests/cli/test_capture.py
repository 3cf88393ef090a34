"""`capture` writes what `replay` reads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from cexdex.records.quote import Quote
from cexdex.records.trade import Trade
from ingest.recording import Recording
from simulator import running
from tests.ingest.played import ROOT, records_of

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize(("venue", "path"), [("binance", "/stream"), ("coinbase", ""), ("kraken", "/v2")])
async def test_what_was_captured_plays_to_live_quotes(venue: str, path: str, tmp_path: Path) -> None:
    async with running(base_port=0, rate=200) as venues:
        url = venues[venue].ws_url.removesuffix(path) + path
        settings = {"ws_url": url, "rest_url": venues[venue].rest_url}
        environment = {
            f"CEXDEX_VENUES__{venue.upper()}__{key.upper()}": value for key, value in settings.items()
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cexdex", "capture", venue, "captured", "--seconds", "4", "--market", "BTC-USD",
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )  # fmt: skip
        assert await process.wait() == 0
    about = json.loads((tmp_path / "captured" / "recording.json").read_text())
    assert about["venue"] == venue
    assert about["counts"]["connect"] >= 1
    assert about["counts"]["recv"] > 50
    records, [player] = records_of(Recording.open(tmp_path / "captured"))
    quotes = [record for record in records if isinstance(record, Quote)]
    live = {quote.instrument for quote in quotes if quote.state == "live"}
    expected = {"binance": "binance:BTC-USDT", "coinbase": "coinbase:BTC-USD", "kraken": "kraken:BTC-USD"}[
        venue
    ]
    assert expected in live
    assert {quote.market for quote in quotes} <= {"BTC-USD", "USDT-USD", "USDC-USD", "USDC-USDT"}
    assert any(isinstance(record, Trade) for record in records)
    assert player.counts["requests_unanswered"] <= 1
    assert not player.counts["dead_letters"]
