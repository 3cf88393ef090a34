"""The ClickHouse side of a record, derived from its declaration: column types, DDL, what differs in a server.

ClickHouse checks nothing (measured: null becomes 0, 2^64 becomes 0, 1e999 infinity), so whatever may be absent is
Nullable, and `strict` gives the decoder that keeps the rest out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from cexdex.records.record import Declaration, declarations

LOW = "LowCardinality(String)"
DEDUPLICATION_WINDOW = 1000
"""How many inserts ClickHouse remembers the tokens of: an insert tried again is stored once."""


class TableMismatchError(Exception):
    """A table cannot hold its record; one sentence says which column and what to do."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    default: str = ""
    """As SQL; only where a record without the field means something else than ClickHouse's own default."""

    @property
    def sql(self) -> str:
        codec = _codec(self.name, self.type)
        return f"`{self.name}` {self.type}{f' DEFAULT {self.default}' if self.default else ''}{codec}"


@dataclass(frozen=True, slots=True)
class Found:
    """A table as the server has it."""

    columns: Mapping[str, str]
    """Type by name, out of system.columns."""
    sorting_key: str
    partition_key: str
    definition: str
    """create_table_query of system.tables."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What makes a table of the server the declared one."""

    statements: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    """Columns of the server that no record has any more; they are left alone."""


def columns(declaration: Declaration) -> list[Column]:
    """`_partition` and `_offset`, then the record's own fields in their order, `type` first."""
    hints = get_type_hints(declaration.struct, include_extras=True)
    own = [
        Column(info.encode_name, column_type(hints[info.name]), _default(info))
        for info in msgspec.structs.fields(declaration.struct)
    ]
    return [Column("_partition", "UInt32"), Column("_offset", "UInt64"), Column("type", LOW), *own]


def ddl(declaration: Declaration, database: str, keep_days: int | None) -> str:
    """CREATE TABLE. keep_days: how long rows stay, None for ever."""
    lines = [*(column.sql for column in columns(declaration)), _time_column(declaration)]
    keep = None if declaration.dateless else keep_days
    key = ", ".join(sorting_key(declaration))
    clauses = [
        f"CREATE TABLE IF NOT EXISTS `{database}`.`{declaration.table}`",
        "(\n    " + ",\n    ".join(lines) + "\n)",
        "ENGINE = ReplacingMergeTree(_offset)",
        *([] if declaration.dateless else ["PARTITION BY toDate(time)"]),
        f"ORDER BY {key if ',' not in key else f'({key})'}",
        *([f"TTL {_expiry(keep)}"] if keep else []),
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, ttl_only_drop_parts = 1,"
        " fsync_after_insert = 1",
    ]
    return "\n".join(clauses)


def sorting_key(declaration: Declaration) -> list[str]:
    """What makes a row one of its kind, in the order it is looked for. Raises TypeError for a nullable id."""
    hints = get_type_hints(declaration.struct, include_extras=True)
    for name in declaration.id:
        if column_type(hints[name]).startswith(("Nullable", "LowCardinality(Nullable")):
            raise TypeError(
                f"{declaration.struct.__name__}.{name} is part of an id and may not be null; use ''"
            )
    if declaration.dateless:
        return list(declaration.id)
    market = ["market"] if "market" in declaration.struct.__struct_fields__ else []
    rest = [name for name in declaration.id if name not in market and name != declaration.time]
    if declaration.table == "trades":
        # A trade is looked for by its instrument, all others by their time.
        return [*market, "instrument", "time", "trade_id"]
    return [*market, "time", *rest]


def keep_days(declaration: Declaration, configured: Mapping[str, int], database: str) -> int | None:
    """How long this table's rows stay in this database: a replay's for ever."""
    if is_replay(database):
        return None
    return configured.get(declaration.table, declaration.keep_days)


def is_replay(database: str) -> bool:
    """Whether a database holds a replay, whose time is not the wall clock's."""
    return database.startswith("replay_")


def compare(declaration: Declaration, database: str, keep: int | None, found: Found) -> Comparison:
    """The statements that add what is missing. Raises TableMismatchError for what cannot be added."""
    where = f"`{database}`.`{declaration.table}`"
    result = Comparison()
    after = ""
    for column in columns(declaration):
        actual = found.columns.get(column.name)
        if actual is None:
            result.statements.append(f"ALTER TABLE {where} ADD COLUMN IF NOT EXISTS {column.sql}{after}")
        elif actual != column.type:
            raise TableMismatchError(
                f"{declaration.table}.{column.name} is {actual} in {database} where the record needs {column.type};"
                " `cexdex tables --set-aside` moves the old table aside"
            )
        after = f" AFTER `{column.name}`"
    wanted = ", ".join(sorting_key(declaration))
    if found.sorting_key.replace("`", "") != wanted:
        raise TableMismatchError(
            f"{declaration.table} in {database} is sorted by ({found.sorting_key}) where ({wanted}) is needed;"
            " `cexdex tables --set-aside` moves the old table aside"
        )
    days = None if declaration.dateless else keep
    if days and _expiry(days) not in found.definition:
        result.statements.append(f"ALTER TABLE {where} MODIFY TTL {_expiry(days)}")
    if not days and "TTL toDate(" in found.definition:
        result.statements.append(f"ALTER TABLE {where} REMOVE TTL")
    known = {column.name for column in columns(declaration)} | {"time"}
    result.extra.extend(sorted(set(found.columns) - known))
    return result


def set_aside(declaration: Declaration, database: str, stamp: str) -> str:
    """Moves a table out of the way under a name that says since when."""
    return (
        f"RENAME TABLE `{database}`.`{declaration.table}` TO `{database}`.`{declaration.table}_until_{stamp}`"
    )


def tables() -> dict[str, Declaration]:
    """Every declared table by its name."""
    return {declaration.table: declaration for declaration in declarations().values()}


def column_type(hint: Any) -> str:
    """The ClickHouse type that holds every value of a field's annotation. Raises TypeError where there is none."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _chosen(parts[1:]) or column_type(parts[0])
    if origin in (Union, UnionType):
        return _nullable(parts, hint)
    if origin is Literal:
        return LOW if all(isinstance(value, str) for value in parts) else "Int64"
    if origin is list:
        return f"Array({column_type(parts[0])})"
    if origin is tuple:
        return f"Tuple({', '.join(map(column_type, parts))})"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        inner = get_type_hints(hint, include_extras=True)
        return f"Tuple({', '.join(f'{name} {column_type(inner[name])}' for name in hint.__struct_fields__)})"
    simple = {bool: "Bool", int: "Int64", float: "Float64", str: "String"}.get(hint)
    if simple is None:
        raise TypeError(f"no ClickHouse type for {hint!r}")
    return simple


@cache
def strict(declaration: Declaration) -> msgspec.json.Decoder[Any]:
    """A decoder that refuses what the record refuses, and every number or text that the column cannot hold."""
    return msgspec.json.Decoder(_strict_struct(declaration.struct))


def _chosen(metas: tuple[Any, ...]) -> str | None:
    for meta in metas:
        if isinstance(meta, Meta) and meta.extra and "clickhouse" in meta.extra:
            return str(meta.extra["clickhouse"])
    return None


def _nullable(parts: tuple[Any, ...], hint: Any) -> str:
    real = [part for part in parts if part is not NoneType]
    if len(real) != 1:
        raise TypeError(f"no ClickHouse type for {hint!r}")
    inner = column_type(real[0])
    if len(real) == len(parts):
        return inner
    if inner.startswith("LowCardinality("):
        return f"LowCardinality(Nullable({inner[15:-1]}))"
    if inner.startswith("Array("):
        raise TypeError(f"ClickHouse has no nullable arrays: {hint!r}; use an empty list")
    return f"Nullable({inner})"


def _default(info: msgspec.structs.FieldInfo) -> str:
    value = info.default
    if value is msgspec.NODEFAULT or not value:  # None, 0, '', [] and False are ClickHouse's own
        return ""
    return (
        "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if isinstance(value, str) else repr(value)
    )


def _time_column(declaration: Declaration) -> str:
    name = declaration.time
    hint = get_type_hints(declaration.struct, include_extras=True)[name]
    source = f"coalesce({name}, received_at)" if column_type(hint).startswith("Nullable") else name
    if declaration.table == "trades":
        # The same fill comes by socket in µs and by REST in ms from some venues, and must stay one row.
        source = f"intDiv({source}, 1000) * 1000"
    return f"`time` DateTime64(6, 'UTC') MATERIALIZED fromUnixTimestamp64Micro({source}, 'UTC') CODEC(DoubleDelta, ZSTD(1))"


def _expiry(days: int) -> str:
    return f"toDate(time) + toIntervalDay({days})"


def _codec(name: str, kind: str) -> str:
    if kind in ("Float64", "Nullable(Float64)"):
        return " CODEC(Gorilla, ZSTD(1))"
    if name.endswith(("_at", "_time")) or name == "_offset":
        return " CODEC(DoubleDelta, ZSTD(1))"
    if kind in ("Int64", "UInt64", "Int32", "Nullable(Int64)"):
        return " CODEC(Delta, ZSTD(1))"
    return " CODEC(ZSTD(1))"


def _strict_struct(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    hints = get_type_hints(struct, include_extras=True)
    fields: list[Any] = []
    for info in msgspec.structs.fields(struct):
        kind = _strict(hints[info.name])
        if info.default is not msgspec.NODEFAULT:
            fields.append((info.name, kind, info.default))
        elif info.default_factory is not msgspec.NODEFAULT:
            fields.append((info.name, kind, msgspec.field(default_factory=info.default_factory)))
        else:
            fields.append((info.name, kind))
    settings = struct.__struct_config__
    return msgspec.defstruct(
        struct.__name__,
        fields,
        tag=settings.tag,
        tag_field=settings.tag_field,
        kw_only=True,
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )


def _strict(hint: Any, column: str | None = None) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _strict(parts[0], _chosen(parts[1:]) or column)
    if origin in (Union, UnionType):
        return Union[tuple(_strict(part, column) for part in parts)]  # noqa: UP007
    if origin is list:
        return list[_strict(parts[0])]  # type: ignore[misc]
    if origin is tuple:
        return tuple[tuple(_strict(part) for part in parts)]  # type: ignore[misc]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _strict_struct(hint)
    if hint is int:
        return Annotated[int, _range(column or "Int64")]
    if hint is str and column and "Int" in column:
        sign = "" if column.startswith("U") else "-?"
        return Annotated[str, Meta(pattern=f"^{sign}[0-9]{{1,77}}$")]
    return hint


def _range(column: str) -> Meta:
    bits = int(column.removeprefix("U").removeprefix("Int"))
    if column.startswith("U"):
        return Meta(ge=0, le=2 ** min(bits, 63) - 1)
    return Meta(ge=-(2 ** (min(bits, 64) - 1)), le=2 ** (min(bits, 64) - 1) - 1)
