"""What a user gets wrong: one sentence that names the thing and the remedy, and the exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cexdex.runtime.datafolder import DataFolder
from tests.ingest.played import ROOT


def cexdex(*arguments: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and what is said on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "cexdex", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400", **environment},
        check=False,
    )
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        (
            "marktes = ['BTC-USD']",
            "cexdex: cexdex.toml: there is no setting 'marktes'; cexdex/defaults.toml lists them",
        ),
        ("notionals_usd = [0]", "notionals_usd takes different positive numbers"),
        (
            "[venues.kraken]\ntaker_fee_bps = 'x'",
            "venues.kraken.taker_fee_bps: Input should be a valid number",
        ),
        ("[[rules]]\nrule = 'a'\nenter_bps = 1\nclear_bps = 2", "clear_bps must not be above enter_bps"),
        (
            "[[rules]]\nrule = 'a'\nnotional_usd = 5\nenter_bps = 1\nclear_bps = 0",
            "notional_usd 5 is not among",
        ),
        ("markets = [", "cexdex.toml cannot be read"),
    ],
)
def test_a_typo_in_the_configuration(toml: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "cexdex.toml").write_text(toml)
    code, said = cexdex("venues", folder=tmp_path)
    assert code == 2
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["status"], 1, "nothing runs in .cexdex; start it with `cexdex up`"),
        (["status", "--database", "demo"], 1, "nothing runs in .cexdex/demo; start it with `make demo`"),
        (["tail", "sprads"], 1, "there is no record type 'sprads'; there are alert_deliveries,"),
        (["replay", "nowhere"], 1, "nowhere is not a recording"),
        (["replay", "nowhere", "--speed", "fast"], 2, "--speed takes a number above 0 or `max`, not 'fast'"),
        (["replay", "nowhere", "--rate", "USDT"], 2, "--rate takes ASSET=USD, as USDT=0.9995, not 'USDT'"),
        (["replay", "nowhere", "--rate", "USDT=nan"], 2, "as USDT=0.9995, not 'USDT=nan'"),
        (["replay", "nowhere", "--rate", "USDT=inf"], 2, "as USDT=0.9995, not 'USDT=inf'"),
        (["replay", "nowhere", "--rate", "USDT=0"], 2, "as USDT=0.9995, not 'USDT=0'"),
        (["replay", "nowhere", "--rate", "USDT=-1"], 2, "as USDT=0.9995, not 'USDT=-1'"),
        (["replay", "nowhere", "--rate", "=1"], 2, "as USDT=0.9995, not '=1'"),
        (["replay", "nowhere", "--database", "Böse"], 2, "is no name for a replay's database"),
        (["capture", "mtgox", "folder"], 2, "there is no venue 'mtgox'; there are binance, coinbase, kraken"),
        (["demo", "--market", "BTCUSD"], 2, "'BTCUSD' is no market; one is written BASE-QUOTE, as BTC-USD"),
        (["--config", "none.toml", "venues"], 2, "there is no configuration file none.toml"),
        (["dmeo"], 2, "No such command 'dmeo'"),
    ],
)  # fmt: skip
def test_wrong_words(arguments: list[str], code: int, sentence: str, tmp_path: Path) -> None:
    found, said = cexdex(*arguments, folder=tmp_path, CEXDEX_CACHE=str(ROOT / ".cexdex" / "jars"))
    assert sentence in said
    assert found == code
    assert "Traceback" not in said


def test_a_recording_of_a_symbol_that_no_listing_has_says_where_to_add_it(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "recording.json").write_text('{"venue": "kraken"}')
    data = {"symbol": "DOGE/USD", "bids": [], "asks": [], "checksum": 0}
    frame = json.dumps({"channel": "book", "type": "snapshot", "data": [data]})
    (folder / "frames.jsonl").write_text(
        json.dumps({"t": 1, "conn": "a", "dir": "recv", "data": frame}) + "\n"
    )
    code, said = cexdex("replay", "odd", folder=tmp_path, CEXDEX_CACHE=str(ROOT / ".cexdex" / "jars"))
    assert code == 1
    assert "odd: no listing for DOGE/USD; add it to ingest/listings/kraken.json" in said


def test_a_data_folder_in_use_and_a_port_taken(tmp_path: Path) -> None:
    with DataFolder.take(tmp_path / ".cexdex" / "demo"):
        code, said = cexdex("demo", folder=tmp_path)
    assert code == 1
    assert (
        f"demo is in use by process {os.getpid()}; stop that one, or name another folder with CEXDEX_DATA"
        in said
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        offset = taken.getsockname()[1] - 8123
        code, said = cexdex(
            "--port-offset", str(offset), "demo", folder=tmp_path, CEXDEX_CACHE=str(ROOT / ".cexdex" / "jars")
        )
    assert code == 1
    assert f"Port {8123 + offset}, which ClickHouse listens on, is taken" in said
    assert "--port-offset" in said


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("sql", ".cexdex is used by `cexdex sql` (process {pid}); try again in a moment"),
        ("up", "`cexdex up` (process {pid}) is starting in .cexdex; try again in a moment"),
    ],
)
def test_a_data_folder_whose_owner_has_no_kafka_or_clickhouse_yet(
    kind: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "recording.json").write_text('{"venue": "kraken"}')
    with DataFolder.take(tmp_path / ".cexdex", kind=kind) as folder:
        (folder.path / "config.json").write_text("{}")  # of an earlier run
        for arguments in (
            ["replay", "odd"],
            ["tail", "spreads"],
            ["status"],
            ["sql", "SELECT 1"],
            ["topics"],
        ):
            said = cexdex(*arguments, folder=tmp_path)
            assert said == (1, f"cexdex: {sentence.format(pid=os.getpid())}"), arguments


@pytest.mark.integration
def test_instruments_of_a_missing_database_says_what_sql_says(tmp_path: Path) -> None:
    (tmp_path / ".cexdex" / "clickhouse").mkdir(parents=True)
    code, said = cexdex("instruments", "--database", "nothing", folder=tmp_path)
    assert code == 1
    assert said.startswith("cexdex: Code: 81. DB::Exception: Database nothing does not exist.")
    assert "for url" not in said
    assert said == cexdex("sql", "--database", "nothing", "SELECT 1", folder=tmp_path)[1]


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    code, said = cexdex("--debug", "status", folder=tmp_path)
    assert code == 1
    assert "Traceback" in said
    assert "NothingRunsError" in said
