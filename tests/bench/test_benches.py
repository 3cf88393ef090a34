"""The benchmarks run, on input so small that their figures mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import feeds, kraken_frames, pipeline, sink, spreads
from bench.cases import Case, kraken, recordings
from bench.figures import Figure, percentile
from bench.ours import check, listing, once
from cexdex.config import load
from ingest.recording import Recording


def test_a_figure_says_whether_it_is_reached() -> None:
    assert Figure("speed", [7, 9, 8], "×", 8).text().endswith("must be ≥ 8: reached")
    assert Figure("time", [7, 9, 8], "ms", 7, "less").text().endswith("must be ≤ 7: NOT REACHED")
    assert percentile([3, 1, 2], 0.5) == 2


def test_the_made_kraken_book_is_whole_by_our_checksum(tmp_path: Path) -> None:
    config, case = load(), kraken(2_000)
    read = Case.read(case.write(tmp_path / "case.json"))
    assert [tuple(frame) for frame in read.frames] == case.frames
    seen = check(read, config, listing(read, config))
    assert seen["warm"] == case.warm
    assert seen["counts"]["checksums_right"] > 1_500
    assert not {"checksums_wrong", "dead_letters", "ignored"} & seen["counts"].keys()
    assert once(read, config, listing(read, config), points=True) > 0


def test_both_protocols_tell_the_same_changes() -> None:
    made, _ = kraken_frames.frames(500, seed=3)
    for _, v2, v1 in made[2:]:
        ours, theirs = json.loads(v2), json.loads(v1)
        if ours["channel"] == "trade":
            assert float(theirs[1][0][0]) == ours["data"][0]["price"]
            continue
        levels = [(lv["price"], lv["qty"]) for lv in ours["data"][0]["asks"] + ours["data"][0]["bids"]]
        told = {key: value for part in theirs[1:-2] for key, value in part.items()}
        assert [(float(p), float(s)) for p, s, _ in told.get("a", []) + told.get("b", [])] == levels
        assert int(told["c"]) == ours["data"][0]["checksum"]


def test_two_that_disagree_are_found() -> None:
    case = kraken(10)
    same: list[Any] = [[5, "BTC-USD", 1.0, 2.0]]
    assert feeds.agreed(case, same, same).startswith("best bid and offer equal after 1 of 1 frames")
    with pytest.raises(RuntimeError, match="disagree"):
        feeds.agreed(
            case, [[n, "x", 1.0, 2.0] for n in range(2, 9)], [[n, "x", 1.0, 3.0] for n in range(2, 9)]
        )


def test_feeds_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feeds.beside(kraken(300), tmp_path / "case.json", repeat=1)
    assert "µs/frame" in capsys.readouterr().out


def test_recorded_cases_are_cut_from_recordings() -> None:
    from bench.cases import binance

    path = recordings() / "binance" / "btcusdt-20240808"
    if not path.exists():
        pytest.skip("the recordings are not here")
    case = binance(Recording.open(path).path, most=300)
    assert len(case.frames) == 300
    assert list(case.symbols.values()) == ["BTCUSDT"]


def test_spreads_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    spreads.measure(quotes=1_000, repeat=1)
    assert "every edge computed" in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.timeout(180)
async def test_the_pipeline_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    await pipeline.measure(rate=100, seconds=2.0, repeat=1)
    out = capsys.readouterr().out
    assert "frame → spread readable, p50" in out
    assert "not measured" not in out


@pytest.mark.integration
@pytest.mark.timeout(180)
async def test_the_sink_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    await sink.measure(rows=2_000, repeat=1)
    assert "rows a second end to end" in capsys.readouterr().out
