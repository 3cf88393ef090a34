"""Small recordings of our own, compared whole. `python -m tests.ingest.test_cases` writes what is expected: read it
line by line against the venue's documents, taker side first, before you commit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cexdex.records.record import encode
from ingest.feed import venues
from ingest.recording import Recording
from tests.ingest.played import ROOT, records_of

CASES = sorted(path.parent for path in (ROOT / "tests" / "recordings").glob("*/*/recording.json"))


def given(case: Path) -> str:
    """What the case's feed gives, a record a line, then what it counted."""
    records, [player] = records_of(Recording.open(case))
    counts = " ".join(f"{name}={count}" for name, count in sorted(player.counts.items()) if count)
    return "".join(f"{encode(record).decode()}\n" for record in records) + f"# {counts}\n"


@pytest.mark.parametrize("case", CASES, ids=[f"{path.parent.name}/{path.name}" for path in CASES])
def test_a_case_gives_exactly_what_was_read_against_the_venues_documents(case: Path) -> None:
    assert given(case) == (case / "expected.jsonl").read_text()


def test_every_venue_has_cases() -> None:
    assert {path.parent.name for path in CASES} == set(venues())


if __name__ == "__main__":
    for case in CASES:
        (case / "expected.jsonl").write_text(given(case))
