"""docs/topics.md: every record, its topic and its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cexdex.records.record import Declaration
from cexdex.records.schema import channel_version, json_schema, schema_name, summary
from docs.fields import field_words

HEAD = """# Topics

Generated from `cexdex/records/` by `make docs`: do not edit.

One JSON object a record. Every record has a `type` field, and its Kafka message a header `type` of the same text, so
that a reader of trades alone skips the rest unparsed. Times are whole microseconds since the epoch, UTC. The fields of
a key are joined by `|`; a null is '' in a key or id. Of two records with one id the later in Kafka counts. A compact
topic keeps the newest record of each key for ever; what ends there is a record that says so. Topics with the key
`market` are split over partitions by Java's murmur2 of the key: a market's events stand on one partition, in one order.

Machines read [asyncapi.json](asyncapi.json) and [schemas/](schemas). A schema's shape changes only with its version.
"""


def topics_page(
    declared: Mapping[str, Declaration], glossary: Mapping[str, str], *, prefix: str, partitions: int
) -> str:
    rows = [
        f"| [{d.type}](#{d.type}) | `{prefix}{d.topic}.v{channel_version(declared, d.topic)}` | {_names(d.key)} |"
        f" {_names(d.id)} | {'yes' if d.compact else ''} | {partitions if d.by_market else 1} | `{d.table}` |"
        for d in declared.values()
    ]
    overview = [
        "| record | topic | key | id | compact | partitions | table |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join([HEAD, *overview, "", *(_section(d, glossary) for d in declared.values())])


def _section(declaration: Declaration, glossary: Mapping[str, str]) -> str:
    schema = json_schema(declaration)
    lines = [
        f"## {declaration.type}",
        "",
        summary(declaration),
        "",
        f"Schema: [{schema_name(declaration)}](schemas/{schema_name(declaration)}).",
        "",
        *_fields(schema, field_words(declaration.struct, glossary)),
        "",
    ]
    for part in parts(declaration.struct):
        nested = schema["$defs"][part.__name__]
        lines += [f"### {part.__name__}", "", nested.get("description", ""), ""]
        lines += [*_fields(nested, field_words(part, glossary)), ""]
    return "\n".join(lines)


def parts(struct: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The structs that stand inside a record, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting = [struct]
    while waiting:
        for field in msgspec.structs.fields(waiting.pop()):
            for inner in _structs(field.type):
                if inner.__name__ not in found:
                    found[inner.__name__] = inner
                    waiting.append(inner)
    return [found[name] for name in sorted(found)]


def _structs(hint: Any) -> list[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for part in getattr(hint, "__args__", ()) for struct in _structs(part)]


def _fields(schema: dict[str, Any], words: Mapping[str, str]) -> list[str]:
    return ["| field | type | meaning |", "|---|---|---|"] + [
        f"| `{name}` | {_type(part)} | {_cell(words.get(name, ''))} |"
        for name, part in schema["properties"].items()
    ]


def _type(part: dict[str, Any]) -> str:
    if "anyOf" in part:
        return " or ".join(_type(each) for each in part["anyOf"])
    if "enum" in part:
        return ", ".join("null" if each is None else f"`{each}`" for each in part["enum"])
    if "$ref" in part:
        name = part["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "prefixItems" in part:
        return f"[{', '.join(_type(each) for each in part['prefixItems'])}]"
    if part.get("type") == "array":
        return f"list of {_type(part.get('items') or {})}"
    return str(part.get("type", "anything"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
