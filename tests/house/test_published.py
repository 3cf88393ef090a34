"""What is published follows from the records, and a promise is not changed under its old name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from cexdex.records.record import declarations
from cexdex.records.schema import json_schema, same_shape, schema_name
from docs.generate import broken_promises, out_of_date, pages
from tests.house.tree import ROOT

WEATHER = '''"""What the sky does."""

from __future__ import annotations

from cexdex.records.record import Name, Record, record


@record(topic="weather", key="venue", id=("venue", "received_at"), keep_days=7)
class Weather(Record, tag="weather", frozen=True, kw_only=True, gc=False):
    """The weather over a venue's matching engine."""

    venue: Name
    celsius: float | None
    """Air temperature; null when nobody looked."""
'''


def test_every_generated_page_is_what_the_records_declare() -> None:
    found = pages(ROOT)
    assert out_of_date(ROOT, found) == [], "make docs"
    assert broken_promises(ROOT, found) == []


@pytest.mark.parametrize("type", declarations())
def test_a_schema_is_a_schema_and_one_file(type: str) -> None:
    declaration = declarations()[type]
    published = json.loads((ROOT / "docs/schemas" / schema_name(declaration)).read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    assert same_shape(published, json_schema(declaration))


def test_asyncapi_names_every_record_and_only_files_that_exist() -> None:
    document = json.loads((ROOT / "docs/asyncapi.json").read_text())
    assert list(document["components"]["messages"]) == list(declarations())
    for message in document["components"]["messages"].values():
        assert (ROOT / "docs" / message["payload"]["schema"]["$ref"]).exists()
    assert {d.topic for d in declarations().values()} == set(document["channels"])
    assert set(document["channels"]["market"]["messages"]) >= {"trade", "quote", "book"}


def test_words_of_a_schema_may_change_and_its_shape_may_not() -> None:
    schema = json_schema(declarations()["trade"])
    assert same_shape(schema, json_schema(declarations()["trade"], {"price": "What was paid."}))
    assert not same_shape(schema, schema | {"required": []})
    assert not same_shape(schema, schema | {"x-key": ["instrument"]})
    described = {"properties": {"description": {"type": "string"}}}
    assert not same_shape(described, {"properties": {}}), "a field may be called description"


def test_a_change_without_a_new_version_is_refused(house: Path) -> None:
    trade = house / "cexdex/records/trade.py"
    text = trade.read_text()
    trade.write_text(text.replace("    quote_size: float\n", "    quote_size: float | None\n"))
    done = generate(house, "--check")
    assert done.returncode == 1
    assert "docs/schemas/trade.v1.json is published with another shape: raise version=" in done.stderr
    published = (house / "docs/schemas/trade.v1.json").read_text()
    assert generate(house).returncode == 1
    assert (house / "docs/schemas/trade.v1.json").read_text() == published

    trade.write_text(trade.read_text().replace("@record(", "@record(version=2,"))
    assert generate(house).returncode == 0
    assert (house / "docs/schemas/trade.v1.json").read_text() == published
    assert (house / "docs/schemas/trade.v2.json").exists()
    assert generate(house, "--check").returncode == 0


def test_before_the_first_release_a_schema_may_change_as_it_stands(house: Path) -> None:
    trade = house / "cexdex/records/trade.py"
    trade.write_text(trade.read_text().replace("    quote_size: float\n", "    quote_size: float | None\n"))
    assert generate(house, "--unreleased").returncode == 0
    assert generate(house, "--check").returncode == 0


def test_adding_a_record_file_is_enough_to_appear_everywhere(house: Path) -> None:
    (house / "cexdex/records/weather.py").write_text(WEATHER)
    assert generate(house, "--check").returncode == 1
    assert generate(house).returncode == 0
    schema = json.loads((house / "docs/schemas/weather.v1.json").read_text())
    assert schema["properties"]["celsius"]["description"] == "Air temperature; null when nobody looked."
    document = json.loads((house / "docs/asyncapi.json").read_text())
    assert document["channels"]["weather"]["address"] == "cexdex.weather.v1"
    topics = (house / "docs/topics.md").read_text()
    assert "| [weather](#weather) | `cexdex.weather.v1` | `venue` |" in topics
    assert "| `celsius` | number or null | Air temperature; null when nobody looked. |" in topics
    tables = (house / "docs/tables.md").read_text().partition("### weather\n")[2]
    assert "`celsius` Nullable(Float64)" in tables


def generate(house: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "docs.generate", *options]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of what the docs are made of, and of the docs."""
    rubbish = shutil.ignore_patterns("__pycache__")
    for part in ("cexdex", "sinks", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=rubbish)
    return tmp_path
