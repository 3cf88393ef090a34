"""docs/tables.md: every ClickHouse view with its example, and every table as it is created."""

from __future__ import annotations

from collections.abc import Mapping

from cexdex.records.record import Declaration
from cexdex.records.schema import summary
from sinks.table import ddl, keep_days
from sinks.view import View, views

HEAD = """# Tables and views

Generated from `cexdex/records/` and `sinks/views/` by `make docs`: do not edit.

A table for each record type, with the record's own fields (their meaning: [topics.md](topics.md)) after where it stood in
Kafka (`_partition`, `_offset`). Times are Int64 microseconds since the epoch; `time` is the column to look at and to
filter by. Read tables with `FINAL`, or set `final = 1` as our servers do: what was delivered twice is then one row. Rows
are kept for `keep_days` of your cexdex.toml.
"""


def tables_page(declared: Mapping[str, Declaration], configured: Mapping[str, int]) -> str:
    lines = [HEAD, "## Views", ""]
    for view in views():
        lines += _view(view)
    lines += ["## Tables", ""]
    for declaration in declared.values():
        lines += _table(declaration, keep_days(declaration, configured, "cexdex"))
    return "\n".join(lines)


def _view(view: View) -> list[str]:
    columns = [f"| `{name}` | {meaning} |" for name, meaning in view.columns.items()]
    return [
        f"### {view.name}",
        "",
        view.answers,
        "",
        "| column | meaning |",
        "|---|---|",
        *columns,
        "",
        "```sql",
        view.example,
        "```",
        "",
    ]


def _table(declaration: Declaration, days: int | None) -> list[str]:
    id_fields = ", ".join(f"`{name}`" for name in declaration.id)
    kept = f"kept {days} days" if days else "kept for ever"
    return [
        f"### {declaration.table}",
        "",
        f"{summary(declaration)} One row for each {id_fields}; {kept}.",
        "",
        "```sql",
        ddl(declaration, "cexdex", days),
        "```",
        "",
    ]
