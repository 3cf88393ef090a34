"""`capture` writes what `replay` reads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web

from cexdex.cli.recordings import CaptureFailedError, _capture
from cexdex.config import load
from cexdex.records.quote import Quote
from cexdex.records.trade import Trade
from ingest.recording import Line, Recording
from ingest.runner.venue import Tap
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


async def captured(folder: Path, venue: str, **settings: str) -> tuple[int | None, str]:
    """Exit code and the last line that is said on standard error, when two seconds are captured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cexdex", "capture", venue, "captured", "--seconds", "2", "--market", "BTC-USD",
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **settings}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    return process.returncode, said.decode().strip().splitlines()[-1]


async def test_an_unreachable_venue_leaves_no_recording(tmp_path: Path) -> None:
    code, said = await captured(
        tmp_path,
        "kraken",
        CEXDEX_VENUES__KRAKEN__WS_URL="ws://127.0.0.1:9/v2",
        CEXDEX_VENUES__KRAKEN__REST_URL="http://127.0.0.1:9",
    )
    assert code == 1
    assert said.startswith("cexdex: nothing was received from kraken (kraken cannot be reached: ")
    assert "check that ws://127.0.0.1:9/v2 and http://127.0.0.1:9 can be reached" in said
    assert not (tmp_path / "captured").exists()


async def test_a_market_that_is_not_listed_leaves_no_recording(tmp_path: Path) -> None:
    async def listing(_: web.Request) -> web.Response:
        return web.json_response({"symbols": []})

    app = web.Application()
    app.router.add_get("/{path:.*}", listing)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        code, said = await captured(tmp_path, "binance", CEXDEX_VENUES__BINANCE__REST_URL=url)
    finally:
        await runner.cleanup()
    assert code == 1
    assert said.startswith("cexdex: nothing was received from binance (binance lists none of BTC-USD), so")
    assert said.endswith("can be reached and that binance lists BTC-USD")
    assert not (tmp_path / "captured").exists()


@pytest.mark.parametrize("received", [False, True])
async def test_an_ingest_that_dies_is_told(
    received: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, tap: Tap, **__: object) -> None:
        if received:
            tap("kraken", Line(1, "ws.1", "recv", "", "{}"))
        raise ExceptionGroup("ingest", [OSError("no space left")])

    monkeypatch.setattr("ingest.runner.run", dies)
    folder = tmp_path / "captured"
    with pytest.raises(CaptureFailedError) as raised:
        await _capture(load(overrides={}), "kraken", folder, 5.0)
    if received:
        assert str(raised.value).startswith("the recording of kraken ended early (no space left); ")
        assert json.loads((folder / "recording.json").read_text())["counts"] == {"recv": 1}
    else:
        assert str(raised.value).startswith("nothing was received from kraken (no space left), so")
        assert not folder.exists()
