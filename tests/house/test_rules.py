"""The house keeps its rules, and each rule can fail."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path, PurePath

import pytest

from cexdex.records.record import declarations
from docs.fields import field_words, glossary
from docs.topics import parts
from tests.house import rules
from tests.house.tree import ROOT, files, modules

LONGER_THAN_THEY_SHOULD_BE: frozenset[str] = frozenset(
    {"ingest/venues/binance.py", "ingest/venues/kraken.py"}  # a venue is one file
)
"""Files over 400 lines. This list only shrinks."""

# Written apart, so that the examples are not themselves what is looked for.
SLASH, DASHES = "/", "--"

MODULES = modules()
TEXT = {
    ".py",
    ".toml",
    ".md",
    ".txt",
    ".yml",
    ".yaml",
    ".xml",
    ".json",
    ".sql",
    ".sh",
    ".html",
    ".js",
    ".css",
    "",
}


@pytest.mark.parametrize("module", [m for m in MODULES if not rules.may_wait(m)])
def test_what_is_not_a_runner_is_told_what_happened_and_when(module: str) -> None:
    assert list(rules.impurities(MODULES[module].read_text())) == []


@pytest.mark.parametrize("module", [m for m in MODULES if not rules.may_read_environment(m)])
def test_the_environment_is_read_in_one_place(module: str) -> None:
    assert list(rules.environment_reads(MODULES[module].read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "async def receive(): ...",
        "def f():\n    return [x async for x in y]",
        "import time",
        "from time import monotonic",
        "import asyncio",
        "import asyncio as later",
        "from socket import create_connection",
        "import aiohttp.web",
        "from urllib.request import urlopen",
        "import urllib.request",
        "from datetime import datetime\nat = datetime.now()",
        "import datetime\nat = datetime.datetime.now(tz)",
        "import datetime\nday = datetime.date.today()",
        "import random",
        "from importlib import import_module\nimport_module('time')",
    ],
)
def test_a_clock_a_socket_or_a_wait_is_found(source: str) -> None:
    assert list(rules.impurities(source))


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"]
)
def test_a_read_of_the_environment_is_found(source: str) -> None:
    assert list(rules.environment_reads(source))


def test_dates_may_be_parsed_and_time_may_be_a_word() -> None:
    source = (
        "from datetime import datetime, UTC\nat = datetime.fromtimestamp(1, UTC)\ntime = at\nbook.time(3)"
    )
    assert list(rules.impurities(source)) == []


@pytest.mark.parametrize(
    ("module", "may"),
    [
        ("ingest.runner", True),
        ("cexdex.runtime.kafka", True),
        ("cexdex.cli", True),
        ("embedded.broker", True),
        ("ingest.venues.binance", False),
        ("processors.spreads", False),
        ("cexdex.config", False),
        ("cexdex.domain.book", False),
        ("sinks.table", False),
    ],
)
def test_only_runners_the_runtime_and_the_roof_may_wait(module: str, may: bool) -> None:
    assert rules.may_wait(module) is may


@pytest.mark.parametrize("module", [m for m in MODULES if re.match(r"cexdex(?!\.(cli|__main__))", m)])
def test_only_the_command_line_knows_the_stages(module: str) -> None:
    assert list(rules.stage_imports(MODULES[module].read_text())) == []


def test_an_import_of_a_stage_is_found() -> None:
    assert list(rules.stage_imports("from ingest.runner import run")) == ["line 1: imports ingest.runner.run"]
    assert list(rules.stage_imports("def f():\n    import sinks.table"))
    assert list(rules.stage_imports("from cexdex.records import record")) == []


METRICS = {m: p.read_text() for m, p in MODULES.items() if rules.has_assignment(p.read_text(), "PROCESSOR")}


@pytest.mark.parametrize("module", METRICS)
def test_metrics_do_not_know_each_other(module: str) -> None:
    assert list(rules.imports_of(METRICS[module], set(METRICS) - {module})) == []


def test_a_metric_that_knows_another_is_found() -> None:
    source = "from processors.spreads import Spreads\nPROCESSOR = Episodes\n"
    assert rules.has_assignment(source, "PROCESSOR")
    assert not rules.has_assignment("from a import PROCESSOR", "PROCESSOR")
    for text in (source, "import processors.spreads as s", "from processors import spreads"):
        assert list(rules.imports_of(text, {"processors.spreads"}))
    assert list(rules.imports_of("from processors.leg import Leg", {"processors.spreads"})) == []


def test_a_file_is_named_for_what_is_in_it() -> None:
    assert [bad for path in files() if (bad := rules.bad_name(path.relative_to(ROOT)))] == []
    assert rules.bad_name(PurePath("ingest/utils.py"))
    assert rules.bad_name(PurePath("sinks/table_helpers.py"))
    assert rules.bad_name(PurePath("processors/basis.py")) is None


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT))
        for path in files()
        if path.suffix == ".py" and rules.too_long(path, path.read_text(encoding="utf-8"))
    }
    assert long - LONGER_THAN_THEY_SHOULD_BE == set()
    assert LONGER_THAN_THEY_SHOULD_BE - long == set(), "these are short now: take them off the list"
    assert rules.too_long(PurePath("a.py"), "\n" * 401)


def test_nothing_tells_of_the_machine_it_was_written_on() -> None:
    own = Path(__file__).parent / "test_rules.py", Path(__file__).parent / "rules.py"
    found = [
        f"{path.relative_to(ROOT)} {trace}"
        for path in files()
        if path.suffix in TEXT and path not in own and "recordings" not in path.parts
        for trace in rules.machine_traces(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        f"path = '{SLASH}root/x'",
        f"cd {SLASH}srv/build/main".replace("srv/build", "work"),
        "/home/jo/x",
        f"{DASHES}index-url https://a/b",
        "https://mirror.local/simple",
    ],
)
def test_a_trace_of_a_machine_is_found(line: str) -> None:
    assert list(rules.machine_traces(line))


@pytest.mark.parametrize("name", ["run", "dev", "bench"])
def test_requirements_are_pinned_and_hashed(name: str) -> None:
    assert list(rules.unhashed((ROOT / f"requirements/{name}.txt").read_text())) == []
    assert list(rules.unhashed("aiohttp>=3\n")) == ["line 1: aiohttp>=3"]
    assert list(rules.unhashed(f"{DASHES}index-url https://a\n"))


def test_what_runs_is_what_was_tested() -> None:
    run, dev = ((ROOT / f"requirements/{n}.txt").read_text() for n in ("run", "dev"))
    pins = re.compile(r"^\S+==\S+", re.MULTILINE)
    assert set(pins.findall(run)) <= set(pins.findall(dev))


def test_every_field_is_explained() -> None:
    common = glossary((ROOT / "docs/glossary.md").read_text())
    missing = [
        f"{struct.__name__}.{name}"
        for d in declarations().values()
        for struct in (d.struct, *parts(d.struct))
        for name in struct.__struct_fields__
        if name not in field_words(struct, common)
    ]
    assert missing == [], "give it a docstring, or docs/glossary.md a line"


def test_a_field_without_a_word_is_found() -> None:
    assert "age_us" not in field_words(declarations()["rates"].struct, {})
    assert "path" in field_words(declarations()["rates"].struct, {})


def test_changes_are_written_down() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[?Unreleased\]?$", changes, re.MULTILINE)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_decision_says_what_would_reverse_it(number: int) -> None:
    [page] = (ROOT / "docs/decisions").glob(f"{number:04d}-*.md")
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "What would reverse it",
    ]
    assert len(text.splitlines()) <= 60, "one page"


def test_the_packages_of_the_wheel_are_the_packages_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    here = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert here - {"bench", "examples", "docs", "tests"} <= set(wheel)
    assert project["tool"]["importlinter"]["root_packages"] == wheel


def test_ci_runs_the_readme_s_test_command() -> None:
    assert re.search(r"^make test\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("gigabytes", "python", "sentence"),
    [("999999", "", "GB of disk"), ("0", "no-such-python", "needs Python 3.11, 3.12 or 3.13")],
)
def test_set_up_says_in_one_sentence_what_is_missing(gigabytes: str, python: str, sentence: str) -> None:
    check = ["sh", str(ROOT / "requirements/check.sh"), gigabytes, *([python] if python else [])]
    done = subprocess.run(check, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_set_up_names_a_python_that_can_do_it() -> None:
    check = ["sh", str(ROOT / "requirements/check.sh"), "0"]
    python = subprocess.run(check, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    version = subprocess.run(
        [python, "-c", "import sys, venv; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (3, 11) <= ast.literal_eval(version.stdout) <= (3, 13)
