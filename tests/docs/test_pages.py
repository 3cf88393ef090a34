"""The pages say what is: links, settings, metrics, fields, views and code are those of the product."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cexdex.config import NOT_SETTINGS, Config, _defaults, merged
from cexdex.records.record import declarations
from docs import excerpts
from sinks.view import views
from tests.docs.page import MARKS, PAGES, ROOT, blocks, commands, headings

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
SECRETS = {"CEXDEX_CLICKHOUSE_PASSWORD"}
SOURCES = "".join(
    path.read_text()
    for folder in ("cexdex", "ingest", "processors", "sinks")
    for path in sorted((ROOT / folder).rglob("*.py"))
)


def read(name: str) -> str:
    return (ROOT / name).read_text()


@each_page
def test_every_anchor_is_a_heading(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text()):
        target = page.parent / link if link else page
        assert anchor in headings(target.read_text()), f"{link}#{anchor}"


@each_page
def test_settings_shown_are_accepted(page: Path) -> None:
    for block in blocks(page.read_text(), "toml"):
        Config(**merged(_defaults(), tomllib.loads(block)))


@each_page
def test_settings_of_the_environment_exist(page: Path) -> None:
    for name in set(re.findall(r"\bCEXDEX_[A-Z_]+[A-Z]\b", page.read_text())) - set(NOT_SETTINGS) - SECRETS:
        part: Any = Config
        for key in name.removeprefix("CEXDEX_").lower().split("__"):
            assert isinstance(part, type)
            assert issubclass(part, BaseModel), name
            assert key in part.model_fields, name
            part = part.model_fields[key].annotation


@each_page
def test_prometheus_metrics_exist(page: Path) -> None:
    for name in re.findall(r"`(cexdex_[a-z_]+)`", page.read_text()):
        assert f'"{name}"' in SOURCES, name


@each_page
def test_excerpts_are_the_files_own_lines(page: Path) -> None:
    assert excerpts.filled(page.read_text()) == page.read_text(), "python -m docs.excerpts"


@each_page
def test_every_comment_of_a_command_is_a_known_mark_or_tells_something(page: Path) -> None:
    for command in commands(page):
        assert "#" not in command.text, f"two spaces before the comment: {command.text}"


def test_marks_are_found() -> None:
    lines = [command for page in PAGES for command in commands(page)]
    assert {mark for line in lines for mark in line.marks} == set(MARKS)


def test_an_excerpt_that_is_old_is_found() -> None:
    page = "<!-- excerpt: ingest/venues/kraken.py VENUE -->\n```python\nVENUE = None\n```\n"
    assert "shard=" in excerpts.filled(page)
    with pytest.raises(KeyError):
        excerpts.filled(page.replace("VENUE -->", "NOTHING -->"))


def test_the_readme_lists_every_topic_and_every_view() -> None:
    text = read("README.md")
    topics = {declaration.topic for declaration in declarations().values()}
    rows = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    assert rows == topics | {view.name for view in views()}
    for declaration in declarations().values():
        if declaration.topic == "market":
            assert f"`{declaration.type}` (`{declaration.table}`)" in text


def test_every_view_in_the_tables_page_has_the_example_of_its_file() -> None:
    tables = read("docs/tables.md")
    for view in views():
        _, _, section = tables.partition(f"\n### {view.name}\n")
        assert blocks(section, "sql")[0].strip() == view.example


@pytest.mark.parametrize("type", ["spreads", "consolidated", "liquidity", "candles"])
def test_every_number_has_its_formula(type: str) -> None:
    _, _, section = read("docs/metrics.md").partition(f"\n## {type}\n")
    section = section.split("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", section))
    own = set(declarations()[type].struct.__struct_fields__)
    own -= {"event_time", "received_at", "published_at", "market", "source_offset"}
    assert own - told == set()
    rows = re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE)
    fields = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    nested = {"notional_usd", "buy_vwap", "sell_vwap", "profit_usd"} if type == "spreads" else set()
    assert fields - own == nested


def test_what_is_said_to_be_always_null_is_never_computed() -> None:
    section = read("docs/metrics.md").partition("always null:**")[2].split("\n\n")[0]
    names = re.findall(r"`(\w+)`", section)
    spreads = read("processors/spreads.py")
    assert len(names) == 11
    for name in names:
        if "block" not in name:
            assert f"{name}=" not in spreads, name


def test_the_picture_fetches_nothing_and_says_that_it_is_simulated() -> None:
    picture = read("docs/demo.svg")
    assert re.findall(r"(?:url\(|href=|src=)[\"']?(?!#)[^\"')]+", picture) == []
    assert "simulated" in picture
    assert "](docs/demo.svg)" in read("README.md")


def test_examples_are_short() -> None:
    for name in ("spreads.py", "trades_of_a_market.py", "query.py"):
        assert len((ROOT / "examples" / name).read_text().splitlines()) <= 20
