"""Recordings played through the feeds, for tests."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cexdex.config import assets, load
from cexdex.records.record import Record
from ingest.recording import Player, Recording, look_into, play

ROOT = Path(__file__).parents[2]
RECORDINGS = Path(os.environ.get("CEXDEX_RECORDINGS", ROOT.parent / "shared" / "recordings"))


def recording(name: str) -> Recording:
    """A recording beside the project; the test is skipped where it is not."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"no recording {path}; set CEXDEX_RECORDINGS")
    return Recording.open(path)


def player_of(recording: Recording) -> Player:
    config = load(overrides={})
    return Player(recording, look_into(recording, config, assets()), config, assets())


def records_of(*recordings: Recording) -> tuple[list[Record], list[Player]]:
    """Every record that the recordings' feeds give, in order."""
    players = [player_of(one) for one in recordings]
    return [record for played in play(players) for record in played.records], players


def raw_lines(recording: Recording) -> Iterator[dict[str, Any]]:
    """The lines as any other reader would see them."""
    with gzip.open(recording.path / "frames.jsonl.gz") as stream:
        for text in stream:
            yield json.loads(text)


def without(recording: Recording, number: int, folder: Path) -> Recording:
    """A copy of the recording in which one received frame is missing."""
    folder.mkdir(parents=True)
    (folder / "recording.json").write_text(json.dumps({"venue": recording.venue}))
    received = -1
    with (folder / "frames.jsonl").open("w") as file:
        for line in raw_lines(recording):
            received += line["dir"] == "recv"
            if line["dir"] != "recv" or received != number:
                file.write(json.dumps(line) + "\n")
    return Recording.open(folder)
