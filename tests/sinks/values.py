"""A plain value for every annotation that a record may use, so that a new record is tested without a line here."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec


def plain(struct: type[msgspec.Struct], at: int) -> dict[str, Any]:
    """Every field filled: nothing null, nothing empty, and times at `at`."""
    hints = get_type_hints(struct, include_extras=True)
    return {
        name: at
        if name.endswith(("_at", "_time", "_as_of")) and _holds_int(hints[name])
        else value(hints[name], at)
        for name in struct.__struct_fields__
    }


def value(hint: Any, at: int) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        chosen = next((m.extra["clickhouse"] for m in parts[1:] if m.extra and "clickhouse" in m.extra), "")
        return "7" if "Int" in chosen and parts[0] is str else value(parts[0], at)
    if origin in (Union, UnionType):
        return value(next(part for part in parts if part is not NoneType), at)
    if origin is Literal:
        return parts[0]
    if origin is list:
        return [value(parts[0], at)]
    if origin is tuple:
        return tuple(value(part, at) for part in parts)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint(**plain(hint, at))
    return {bool: True, int: 7, float: 1.5, str: "text"}[hint]


def _holds_int(hint: Any) -> bool:
    return value(hint, 0) == 7 and not isinstance(value(hint, 0), str)
