"""The frames both are given: recordings, cut to what both understand, and a Kraken book in both its protocols."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import kraken_frames
from ingest.feed import asked
from ingest.recording import Line, Recording

Frame = tuple[int, str, str | None]
"""Microsecond, text, and the peer's text where it is given another one."""


@dataclass
class Case:
    """What is fed. symbols: the peer's name of each by its own; answers: snapshots by symbol; warm: frames that set the
    books up and are not counted; passes: how often the rest is fed in one measurement."""

    name: str
    venue: str
    symbols: dict[str, str]
    frames: list[Frame]
    answers: dict[str, str] = field(default_factory=dict)
    warm: int = 0
    passes: int = 1
    depth: int | None = None
    goal: float = 8.0

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Case:
        return cls(**json.loads(path.read_text()))


def recordings() -> Path:
    """Where the recordings are, which are not part of the repository."""
    return Path(os.environ.get("CEXDEX_RECORDINGS") or "../shared/recordings")


def cases(most: int = 20_000) -> Iterator[Case | str]:
    """Every case, or the sentence that says why there is none."""
    for name, goal in (("btcusdt-20240808", 8.0), ("btc-eth-dot-20210404", 8.0)):
        path = recordings() / "binance" / name
        if (path / "recording.json").exists():
            mix = binance(path, most)
            mix.goal = goal
            yield mix
            yield depth_alone(mix)
        else:
            yield absent(path)
    path = recordings() / "coinbase" / "advanced-btc-eth-20260809"
    yield coinbase(path) if (path / "recording.json").exists() else absent(path)
    yield kraken(most)


def absent(path: Path) -> str:
    return f"{path.parent.name}/{path.name} is not measured: it is not in CEXDEX_RECORDINGS ({recordings()})"


def binance(path: Path, most: int) -> Case:
    """Depth and aggregated trades. The peer knows no single trades: they are made aggregated ones for both."""
    answers: dict[str, str] = {}
    frames: list[Frame] = []
    for line in Recording.open(path).lines():
        if line.dir == "http":
            answers.setdefault(asked(line.url)[1], line.data)
        elif line.dir == "recv" and len(frames) < most and (text := _depth_or_trade(line)):
            frames.append((line.t, text, None))
    symbols = {f"{name.removesuffix('USDT')}-USDT": name for name in answers}
    return Case(f"Binance {path.name}: depth and trades", "binance", symbols, frames, answers, passes=2)


def _depth_or_trade(line: Line) -> str | None:
    if "@depth" in line.data[:60] or "@aggTrade" in line.data[:60]:
        return line.data
    if "@trade" in line.data[:60]:
        text = line.data.replace("@trade", "@aggTrade", 1).replace('"e":"trade"', '"e":"aggTrade"', 1)
        return text.replace('"t":', '"a":', 1)
    return None


def depth_alone(mix: Case) -> Case:
    frames = [frame for frame in mix.frames if "@depth" in frame[1][:60]]
    name = mix.name.replace("depth and trades", "depth alone")
    return Case(name, mix.venue, mix.symbols, frames, mix.answers, passes=mix.passes, goal=mix.goal)


def coinbase(path: Path) -> Case:
    """The whole socket, for its sequence numbers count every frame. The peer takes the asks of a snapshot for bids'
    strangers (it looks for `ask`, the venue says `offer`): it is given `ask`."""
    frames: list[Frame] = []
    for line in Recording.open(path).lines():
        if line.dir != "recv":
            continue
        whole = '"type":"snapshot"' in line.data[:200] and '"channel":"l2_data"' in line.data[:100]
        frames.append(
            (line.t, line.data, line.data.replace('"side":"offer"', '"side":"ask"') if whole else None)
        )
    symbols = {name: name for name in ("BTC-USD", "ETH-USD")}
    return Case(f"Coinbase {path.name}: level2 and trades", "coinbase", symbols, frames, passes=3)


def kraken(count: int) -> Case:
    frames, warm = kraken_frames.frames(count)
    case = Case(
        "Kraken, made: book of 500 and trades, our checksum on", "kraken", {"BTC-USD": "XBT/USD"}, [*frames]
    )
    case.warm, case.depth, case.goal = warm, kraken_frames.DEPTH, 3.0
    return case
