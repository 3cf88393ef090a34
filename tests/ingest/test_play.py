"""Recordings beside each other: each one's feeds end with its own last line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cexdex.records.quote import Quote
from ingest.recording import Recording, play
from tests.ingest.played import player_of

T0 = 1_700_000_000_000_000
SECOND = 1_000_000


def level2(number: int, product: str, kind: str, price: int) -> dict[str, Any]:
    updates = [
        {"side": side, "event_time": "2023-11-14T22:13:20Z", "price_level": str(level), "new_quantity": "1"}
        for side, level in (("bid", price - 1), ("offer", price + 1))
    ]
    events = [{"type": kind, "product_id": product, "updates": updates}]
    return {
        "channel": "l2_data",
        "timestamp": "2023-11-14T22:13:20Z",
        "sequence_num": number,
        "events": events,
    }


def written(folder: Path, product: str, seconds: int) -> Recording:
    """A frame a second, the last one `seconds` after the first."""
    folder.mkdir()
    (folder / "recording.json").write_text('{"venue": "coinbase"}')
    with (folder / "frames.jsonl").open("w") as file:
        for number in range(seconds + 1):
            frame = json.dumps(level2(number, product, "update" if number else "snapshot", 100))
            line = {"t": T0 + number * SECOND, "conn": "ws.1", "dir": "recv", "data": frame}
            file.write(json.dumps(line) + "\n")
    return Recording.open(folder)


@pytest.mark.parametrize("short_first", [True, False])
def test_a_short_recording_beside_a_long_one_ends_at_its_own_last_line(
    short_first: bool, tmp_path: Path
) -> None:
    short, long = written(tmp_path / "short", "ETH-USD", 3), written(tmp_path / "long", "BTC-USD", 90)
    players = [player_of(one) for one in ((short, long) if short_first else (long, short))]
    told = [(played.at, record) for played in play(players) for record in played.records]
    for instrument, seconds in (("coinbase:ETH-USD", 3), ("coinbase:BTC-USD", 90)):
        quotes = [(at, r) for at, r in told if isinstance(r, Quote) and r.instrument == instrument]
        assert any(quote.state == "live" for _, quote in quotes)
        at, last = quotes[-1]
        assert (last.reason, at, last.received_at) == ("ended", *[T0 + seconds * SECOND] * 2)
        assert [quote.reason for _, quote in quotes].count("ended") == 1
        of_it = [at for at, record in told if getattr(record, "instrument", None) == instrument]
        assert max(of_it) == T0 + seconds * SECOND
    for player in players:
        assert player.counts["reconnects"] == 0
        assert player.counts["lines_recv"] in (4, 91)
