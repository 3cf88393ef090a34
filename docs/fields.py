"""What each field of a record means: its own docstring, its type's description, else the glossary's word for it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise

import msgspec
from msgspec.inspect import Metadata, StructType, type_info

SIDES = (
    ("buy_", "of the leg bought"),
    ("sell_", "of the leg sold"),
    ("bid_", "on the bid"),
    ("ask_", "on the ask"),
)


def field_words(struct: type[msgspec.Struct], glossary: Mapping[str, str]) -> dict[str, str]:
    """The meaning of every field that has one, in the order of the record."""
    own: dict[str, str] = {}
    for ancestor in reversed(struct.__mro__):
        if issubclass(ancestor, msgspec.Struct) and ancestor is not msgspec.Struct:
            own |= _docstrings(ancestor)
    described = _descriptions(struct)
    found = {}
    for name in ("type", *struct.__struct_fields__):
        if meaning := own.get(name, described.get(name)) or common_meaning(name, glossary):
            found[name] = meaning
    return found


def common_meaning(name: str, glossary: Mapping[str, str]) -> str | None:
    """The glossary's meaning of a field name, or of the name behind `buy_`, `sell_`, `bid_`, `ask_`."""
    for pattern, meaning in glossary.items():
        if fnmatchcase(name, pattern):
            return meaning
    for prefix, side in SIDES:
        rest = name.removeprefix(prefix)
        if rest != name and (behind := common_meaning(rest, glossary)):
            return f"{behind.rstrip('.')}, {side}."
    return None


def glossary(page: str) -> dict[str, str]:
    """The table under `## Fields` of docs/glossary.md: each name or pattern and its meaning."""
    _, _, fields = page.partition("\n## Fields\n")
    found = {}
    for names, meaning in re.findall(r"^\| `([^`]+)` \| (.+?) \|$", fields, flags=re.MULTILINE):
        for name in names.split(","):
            found[name.strip()] = meaning
    return found


@cache
def _docstrings(struct: type[msgspec.Struct]) -> dict[str, str]:
    module = ast.parse(inspect.getsource(importlib.import_module(struct.__module__)))
    body = next(
        (n.body for n in module.body if isinstance(n, ast.ClassDef) and n.name == struct.__name__), []
    )
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    info = type_info(struct)
    assert isinstance(info, StructType)
    return {
        field.name: f"{text[0].upper()}{text[1:]}."
        for field in info.fields
        if isinstance(field.type, Metadata)
        and (text := (field.type.extra_json_schema or {}).get("description"))
        and text not in _UNITS
    }


_UNITS = ("microseconds since the epoch, UTC", "basis points, 1e-4")
"""What says a unit says no meaning."""
