"""The published form of the records: a JSON Schema each, and one AsyncAPI document of all topics.

Pure. A schema is a promise to readers who live elsewhere: its shape changes only with a new `version=`, while its words
may be bettered at any time (`same_shape`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cexdex.records.record import Declaration

Words = Mapping[str, str]
"""What a field means, by its name."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_name(declaration: Declaration) -> str:
    """The file that holds a record's schema."""
    return f"{declaration.type}.v{declaration.version}.json"


def json_schema(declaration: Declaration, words: Words | None = None) -> dict[str, Any]:
    """The JSON Schema of a record as it stands in Kafka, with its topic, key and natural id."""
    _, parts = msgspec.json.schema_components([declaration.struct])
    body = parts.pop(declaration.struct.__name__) | {"description": summary(declaration)}
    for name, meaning in (words or {}).items():
        if name in body["properties"]:
            body["properties"][name]["description"] = meaning
    document = {
        "$schema": DIALECT,
        "$id": f"urn:cexdex:{declaration.type}:v{declaration.version}",
        **body,
        "x-topic": declaration.topic,
        "x-key": list(declaration.key),
        "x-id": list(declaration.id),
        "x-compact": declaration.compact,
    }
    return document | ({"$defs": dict(sorted(parts.items()))} if parts else {})


def same_shape(one: Any, other: Any) -> bool:
    """Whether two schemas promise the same: everything but the descriptions is equal."""
    return bool(_shape(one) == _shape(other))


def channel_version(declarations: Mapping[str, Declaration], topic: str) -> int:
    """The version in a topic's name: types that share a topic move to a new one together, or lose their one order."""
    return max(d.version for d in declarations.values() if d.topic == topic)


def asyncapi(
    declarations: Mapping[str, Declaration], *, version: str, prefix: str, partitions: int, schemas: str
) -> dict[str, Any]:
    """An AsyncAPI 3.0 document of every topic; `schemas` is the folder of the schema files, as seen from it."""
    channels: dict[str, Any] = {}
    for topic in sorted({d.topic for d in declarations.values()}):
        types = [d for d in declarations.values() if d.topic == topic]
        channels[topic] = {
            "address": f"{prefix}{topic}.v{channel_version(declarations, topic)}",
            "description": "\n".join(f"{d.type}: {summary(d)}" for d in types),
            "messages": {d.type: {"$ref": f"#/components/messages/{d.type}"} for d in types},
            "bindings": {
                "kafka": {
                    "partitions": partitions if types[0].by_market else 1,
                    "topicConfiguration": {"cleanup.policy": ["compact" if types[0].compact else "delete"]},
                }
            },
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "cexdex",
            "version": version,
            "description": "Every Kafka topic of cexdex: one JSON object a record, in the order of its partition.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            f"publish_{topic}": {"action": "send", "channel": {"$ref": f"#/channels/{topic}"}}
            for topic in channels
        },
        "components": {"messages": {d.type: _message(d, schemas) for d in declarations.values()}},
    }


def summary(declaration: Declaration) -> str:
    """The record's own docstring, on one line."""
    return " ".join((declaration.struct.__doc__ or "").split())


def _message(declaration: Declaration, schemas: str) -> dict[str, Any]:
    return {
        "name": declaration.type,
        "summary": summary(declaration),
        "headers": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "const": declaration.type}},
        },
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"{schemas}/{schema_name(declaration)}"},
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": " | ".join(declaration.key)},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _shape(part: Any) -> Any:
    if isinstance(part, list):
        return [_shape(each) for each in part]
    if isinstance(part, dict):
        return {k: _shape(v) for k, v in part.items() if k != "description" or not isinstance(v, str)}
    return part
