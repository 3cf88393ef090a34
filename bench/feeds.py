"""Frames to verified books to normalised bytes on one core, beside cryptofeed on the same frames.

Both are measured in processor seconds of processes of their own, one after the other and again, so that what else runs on
the machine weighs on both alike. First it is checked that both have the same best bid and offer after the same frames.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.cases import Case, cases
from bench.figures import Figure, tell

PEER = Path(".venv-bench/bin/python")
SAME = 1e-9


def measure(*, repeat: int = 3, most: int = 20_000) -> None:
    if not PEER.exists():
        print("\nfeeds: cryptofeed is not installed in .venv-bench; `make bench` does that")
    with tempfile.TemporaryDirectory(prefix="cexdex-bench-") as folder:
        for number, case in enumerate(cases(most)):
            if isinstance(case, str):
                print(f"\nfeeds: {case}")
            else:
                beside(case, Path(folder) / f"{number}.json", repeat)


def beside(case: Case, path: Path, repeat: int) -> None:
    ours = json.loads(_run(sys.executable, "-m", "bench.ours", case.write(path), "check"))
    case.warm = case.warm or ours["warm"]
    case.write(path)
    notes = [f"{len(case.frames) - case.warm:,} frames, {repeat} × {case.passes} passes"]
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "peer": []}
    if PEER.exists():
        theirs = json.loads(_run(PEER, "bench/peer.py", path, "check"))
        notes.append(agreed(case, ours["seen"], theirs))
    for _ in range(repeat):
        seconds["ours"].append(float(_run(sys.executable, "-m", "bench.ours", path)))
        if PEER.exists():
            seconds["peer"].append(float(_run(PEER, "bench/peer.py", path)))
        seconds["bare"].append(float(_run(sys.executable, "-m", "bench.ours", path, "bare")))
    tell(f"feeds: {case.name}", figures(case, seconds), notes)


def figures(case: Case, seconds: dict[str, list[float]]) -> list[Figure]:
    frames = (len(case.frames) - case.warm) * case.passes
    rates = {name: [frames / each for each in values] for name, values in seconds.items()}

    def ratio(name: str) -> list[float]:
        return [peer / each for peer, each in zip(seconds["peer"], seconds[name], strict=False)]

    return [
        # the peer makes no ladders: like for like is without them, and what they cost is shown beside it
        Figure("cexdex over cryptofeed 2.4.1", ratio("bare"), "×", case.goal),
        Figure("the same with a ladder each 100 ms, which the peer has not", ratio("ours"), "×"),
        Figure("cexdex", rates["bare"], "frames/s"),
        Figure("cexdex", [1e6 / rate for rate in rates["bare"]], "µs/frame"),
        Figure("cexdex with ladders", [1e6 / rate for rate in rates["ours"]], "µs/frame"),
        Figure("cryptofeed 2.4.1", rates["peer"], "frames/s"),
    ]


def agreed(case: Case, ours: list[list[Any]], theirs: list[list[Any]]) -> str:
    """Compares the touch after each frame of which both have one. RuntimeError where they differ."""
    peer = {number: (bid, ask) for number, _, bid, ask in theirs}
    both = unlike = silent = 0
    for number, instrument, bid, ask in ours:
        if number not in peer or number < case.warm:
            continue
        if bid is None or ask is None:
            silent += 1
            continue
        both += 1
        if abs(peer[number][0] / bid - 1) > SAME or abs(peer[number][1] / ask - 1) > SAME:
            unlike += 1
            first = f"{instrument} after frame {number}: {bid}/{ask} and {peer[number][0]}/{peer[number][1]}"
            if unlike > both * 0.01 + 3:
                raise RuntimeError(f"{case.name}: the two disagree, {first}")
    return (
        f"best bid and offer equal after {both - unlike:,} of {both:,} frames with a quote"
        f"; {silent:,} frames where ours is empty, the price being beyond the snapshot's range"
    )


def _run(*command: str | Path) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, timeout=120
    ).stdout


if __name__ == "__main__":
    measure()
