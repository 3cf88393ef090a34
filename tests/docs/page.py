"""The pages for people, as tests read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.house.tree import ROOT

GENERATED = ("topics.md", "tables.md")
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in GENERATED)]
MARKS = (
    "needs network",
    "needs Docker",
    "while it runs",
    "until Ctrl-C",
    "waits for alerts",
    "writes what is expected",
)


@dataclass(frozen=True)
class Command:
    """A line of a page that a reader types."""

    page: str
    text: str
    marks: frozenset[str]

    @property
    def runs(self) -> str | None:
        """`during` or `after` the demo; None where it cannot be run here. What works in both is asked during it."""
        if self.marks & {"needs network", "needs Docker", "waits for alerts", "writes what is expected"}:
            return None
        if self.text.startswith(("make ", ". ")):
            return None  # the demo, the tests and their environment are what runs this
        return "during" if "while it runs" in self.marks or "--database demo" in self.text else "after"


def blocks(text: str, kind: str) -> list[str]:
    """Every fenced block of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[Command]:
    """Every line of its shell blocks, in order, without the comment, whose known marks it keeps."""
    found = []
    for block in blocks(page.read_text(), "sh"):
        for line in block.splitlines():
            text, _, comment = line.partition("  # ")
            if text.strip():
                marks = frozenset(mark for mark in MARKS if mark in comment)
                found.append(Command(str(page.relative_to(ROOT)), text.strip(), marks))
    return found


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", lines, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
