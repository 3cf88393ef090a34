"""Another distribution that brings a package of our name is found before it does harm."""

from __future__ import annotations

import tomllib
from pathlib import Path

from cexdex.install import PACKAGES, clashes
from tests.house.tree import ROOT


def test_this_environment_is_ours() -> None:
    assert clashes() == []


def test_a_package_brought_by_another_is_named_with_the_remedy() -> None:
    [sentence] = clashes(
        {"processors": ["cexdex", "processors"], "sinks": ["cexdex"], "aiohttp": ["aiohttp"]}
    )
    assert "pip uninstall processors" in sentence


def test_one_that_stands_before_an_installation_from_source_is_found_too() -> None:
    assert clashes({"ingest": ["something-else"]})


def test_a_real_distribution_in_front_is_found(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    record = tmp_path / "processors-0.0.12.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: processors\nVersion: 0.0.12\n")
    (record / "RECORD").write_text("processors/__init__.py,,\nprocessors-0.0.12.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert any("pip uninstall processors" in sentence for sentence in clashes())


def test_the_guard_knows_every_package_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert list(PACKAGES) == project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
