"""What the pages for people say can be done: commands are commands, words of make are words, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.house.command import understood
from tests.house.tree import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()


def commands(page: str) -> list[str]:
    """The lines of its code blocks that begin with `cexdex` or `make`, without prompt and comment."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = [
        re.sub(r"\s+#.*$", "", line).removeprefix("$ ").strip() for b in blocks for line in b.splitlines()
    ]
    return [line for line in lines if line.split(" ")[0] in ("cexdex", "make")]


def links(page: str) -> list[str]:
    """Where its links to other files of the repository lead."""
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def refused(line: str) -> str | None:
    """Why a command of a page is none."""
    name, *words = shlex.split(re.sub(r"[|>&].*$", "", line))
    if name == "make":
        targets = [word for word in words if "=" not in word]
        missing = [t for t in targets if not re.search(rf"^{re.escape(t)}:", MAKEFILE, re.MULTILINE)]
        return f"make has no {missing}" if missing else None
    if any(re.search(r"^[A-Z_]{3,}|…|<", word) and "SELECT" not in word for word in words):
        return None  # a placeholder stands where the reader puts something of his own
    try:
        understood(words)
    except Exception as error:
        return str(error)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_on_a_page_is_one(page: Path) -> None:
    assert {line: why for line in commands(page.read_text()) if (why := refused(line))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in links(page.read_text()) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "line",
    ["cexdex demos", "cexdex demo --secnds 3", "cexdex topics create", "make demmo", "cexdex --nope demo"],
)
def test_a_command_that_is_none_is_found(line: str) -> None:
    assert refused(line)


@pytest.mark.parametrize(
    "line", ["cexdex demo --seconds 30", "cexdex --debug topics", "make demo SECONDS=30", "make test"]
)
def test_a_command_that_is_one_passes(line: str) -> None:
    assert refused(line) is None


def test_commands_and_links_are_found_on_a_page() -> None:
    page = "```sh\n$ cexdex demo  # all of it\nls\n```\nSee [it](docs/x.md#part), [there](https://a.b/c.md)."
    assert commands(page) == ["cexdex demo"]
    assert links(page) == ["docs/x.md"]
