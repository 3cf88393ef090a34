"""Generates docs/schemas, docs/asyncapi.json, docs/topics.md and docs/tables.md from what the records declare.

python -m docs.generate               writes what has changed
python -m docs.generate --check       only says what is out of date, and then ends with 1
python -m docs.generate --unreleased  lets a schema that nobody reads yet change without a new version
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cexdex.config import load
from cexdex.records.record import Declaration, declarations
from cexdex.records.schema import asyncapi, json_schema, same_shape, schema_name
from docs.fields import field_words, glossary
from docs.tables import tables_page
from docs.topics import topics_page

ROOT = Path(__file__).resolve().parent.parent
Pages = dict[str, str]
"""The text of each generated file, by its path from the root."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    found = pages(ROOT)
    broken = [] if options.unreleased else broken_promises(ROOT, found)
    for sentence in broken:
        print(sentence, file=sys.stderr)
    old = out_of_date(ROOT, found)
    if options.check:
        for path in old:
            print(f"{path} is not what the records declare: make docs", file=sys.stderr)
        return 1 if broken or old else 0
    if broken:
        return 1
    for path in old:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(found[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


def pages(root: Path, declared: Mapping[str, Declaration] | None = None) -> Pages:
    """Everything that is generated."""
    declared = declarations() if declared is None else declared
    common = glossary((root / "docs/glossary.md").read_text(encoding="utf-8"))
    words = {d.type: field_words(d.struct, common) for d in declared.values()}
    config = load(root / "cexdex/defaults.toml")
    found = {
        f"docs/schemas/{schema_name(d)}": _json(json_schema(d, words[d.type])) for d in declared.values()
    }
    found["docs/asyncapi.json"] = _json(
        asyncapi(
            declared,
            version="1",
            prefix=config.topics.prefix,
            partitions=config.topics.partitions,
            schemas="./schemas",
        )
    )
    found["docs/topics.md"] = topics_page(
        declared, common, prefix=config.topics.prefix, partitions=config.topics.partitions
    )
    found["docs/tables.md"] = tables_page(declared, config.keep_days)
    return found


def broken_promises(root: Path, found: Pages) -> list[str]:
    """A sentence for each published schema whose shape would change under its old version."""
    return [
        f"{path} is published with another shape: raise version= in @record(…) of {Path(path).name.split('.')[0]}"
        for path, text in found.items()
        if path.startswith("docs/schemas/")
        and (root / path).exists()
        and not same_shape(json.loads((root / path).read_text(encoding="utf-8")), json.loads(text))
    ]


def out_of_date(root: Path, found: Pages) -> list[str]:
    """The generated files that do not exist or say something else."""
    return [
        path
        for path, text in found.items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != text
    ]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m docs.generate", description="Generates the reference docs."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 when something is out of date"
    )
    parser.add_argument(
        "--unreleased", action="store_true", help="before the first release: a schema may change as it stands"
    )
    return parser.parse_args(arguments)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
