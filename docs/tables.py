"""docs/tables.md: every ClickHouse table and view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cexdex.records.record import Declaration


def tables_page(root: Path, declared: Mapping[str, Declaration], keep_days: Mapping[str, int]) -> str:
    return ""
