"""The views for people: each a file of SQL that begins with what it answers, its columns and an example."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from sinks.table import is_replay


@dataclass(frozen=True, slots=True)
class View:
    name: str
    answers: str
    """The question it answers, for the docs."""
    columns: dict[str, str]
    """What each column means."""
    example: str
    """A query that works, without a database's name."""
    select: str

    def ddl(self, database: str) -> str:
        """CREATE VIEW in a database. `{late}` in a view is what its rows say when the newest record is old."""
        late = "replay" if is_replay(database) or database == "demo" else "sink_lag"
        return f"CREATE OR REPLACE VIEW `{database}`.`{self.name}` AS\n{self.select.replace('{late}', late)}"


def views() -> list[View]:
    """Every view of this package, by name."""
    folder = files("sinks").joinpath("views")
    found = [(file.name, file.read_text()) for file in folder.iterdir() if file.name.endswith(".sql")]
    return [parse(name.removesuffix(".sql"), text) for name, text in sorted(found)]


def parse(name: str, text: str) -> View:
    """Reads a view's file: a comment of three parts, then one SELECT. Raises ValueError when a part is missing.

    The parts: a paragraph; lines `column: meaning` after `columns:`; a query after `example:`.
    """
    comment = re.match(r"(?:--.*\n)+", text)
    parts = re.match(
        r"(?P<answers>.+?)\n\s*columns:\n(?P<columns>.+?)\n\s*example:\n(?P<example>.+)",
        re.sub(r"^-- ?", "", comment.group(), flags=re.M) if comment else "",
        re.S,
    )
    if comment is None or parts is None:
        raise ValueError(f"view {name} must begin with a comment: what it answers, `columns:`, `example:`")
    columns = dict(line.strip().split(": ", 1) for line in parts["columns"].splitlines() if line.strip())
    return View(
        name=name,
        answers=" ".join(parts["answers"].split()),
        columns=columns,
        example=parts["example"].strip(),
        select=text[comment.end() :].strip().rstrip(";"),
    )
