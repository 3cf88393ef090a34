"""What a record is, and the decorator that declares one.

A record type is declared once, in one file of this package. Its Kafka topic, ClickHouse table, JSON Schema,
AsyncAPI entry and page in the docs are all derived from that declaration, so that adding a record is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import isfinite
from operator import attrgetter
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(extra={"clickhouse": "LowCardinality(String)"})]
"""A name out of a small set: a venue, an instrument, an asset."""
Micros = Annotated[int, Meta(description="microseconds since the epoch, UTC")]
"""A point in time."""
Bps = Annotated[float, Meta(description="basis points, 1e-4")]
"""A ratio in basis points."""
Levels = list[tuple[float, float]]
"""Price and size (in the market's base), best first."""

State = Literal["live", "syncing", "stale", "halted"]
Reason = Literal[
    "no_rate",
    "depegged",
    "stale_leg",
    "syncing",
    "gap",
    "checksum",
    "crossed",
    "disconnected",
    "halted",
    "ended",
    "beyond_known_range",
    "insufficient_depth",
    "below_minimum",
    "no_liquidity",
    "reorg",
    "implausible",
    "unverified_asset",
    "sink_lag",
    "replay",
]
RateState = Literal["live", "stale", "depegged", "assumed", "missing"]


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", gc=False
):
    """One JSON object in one Kafka topic and one row in one ClickHouse table.

    Raises ValueError when a number is NaN or infinite: JSON has neither, and a null in their place would lie.
    """

    event_time: Annotated[
        Micros | None, Meta(description="the venue's or block's time; null if it gave none")
    ] = None
    received_at: Annotated[Micros, Meta(description="when the frame arrived here: stream time")]
    published_at: Annotated[
        Micros, Meta(description="when it was handed to Kafka; all a replay may change")
    ] = 0

    def __post_init__(self) -> None:
        _refuse_endless(self)


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A part of a record with fields of its own; its numbers are as finite as the record's."""

    def __post_init__(self) -> None:
        _refuse_endless(self)


RecordClass = type[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """Everything that is derived from when a record is stored, sent or documented."""

    type: str
    struct: RecordClass
    topic: str
    key: tuple[str, ...]
    table: str
    id: tuple[str, ...]
    time: str
    keep_days: int | None
    compact: bool
    version: int
    dateless: bool

    @property
    def by_market(self) -> bool:
        """Whether the topic is split over partitions, all of one market on one of them."""
        return self.key == ("market",)

    def key_of(self, record: Record) -> bytes:
        """The Kafka key: the key fields' text, joined by `|`, null as ''."""
        return "|".join(_text(getattr(record, name)) for name in self.key).encode()

    def id_of(self, record: Record) -> tuple[Any, ...]:
        """The natural id: of two records with one id, the later in Kafka counts."""
        return tuple("" if (value := getattr(record, name)) is None else value for name in self.id)


R = TypeVar("R", bound=Record)
_declared: dict[str, Declaration] = {}


def record(
    *,
    topic: str,
    key: str | tuple[str, ...],
    id: str | tuple[str, ...],
    time: str = "received_at",
    table: str | None = None,
    keep_days: int | None = 90,
    compact: bool = False,
    version: int = 1,
    dateless: bool = False,
) -> Callable[[type[R]], type[R]]:
    """Declares a record type.

    topic: the topic's plain name; key: the fields its Kafka key is made of; id: the fields of its natural id, which
    never changes partition or day; time: the field that dates a row, one that never changes for an id; table: the
    ClickHouse table, the tag when not given; keep_days: how long rows are kept, None for ever; compact: the topic
    keeps the newest record of each key; version: raised when the schema changes; dateless: one row per id for ever
    (no day partitions, no expiry).
    """

    def declare(struct: type[R]) -> type[R]:
        tag = struct.__struct_config__.tag
        assert isinstance(tag, str), f"{struct.__name__} needs tag="
        if tag in _declared and _declared[tag].struct.__qualname__ != struct.__qualname__:
            raise ValueError(f"record type {tag!r} is declared twice")
        _declared[tag] = Declaration(
            type=tag,
            struct=struct,
            topic=topic,
            key=(key,) if isinstance(key, str) else key,
            table=table or tag,
            id=(id,) if isinstance(id, str) else id,
            time=time,
            keep_days=None if dateless else keep_days,
            compact=compact,
            version=version,
            dateless=dateless,
        )
        return struct

    return declare


@cache
def declarations() -> Mapping[str, Declaration]:
    """Every record type by its tag, found by importing each module of `cexdex.records`."""
    package = importlib.import_module("cexdex.records")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"cexdex.records.{module.name}")
    return MappingProxyType(dict(sorted(_declared.items())))


@cache
def declaration_of(struct: type[Record]) -> Declaration:
    """The declaration of a record's class. KeyError when it was never declared."""
    return declarations()[str(struct.__struct_config__.tag)]


@cache
def topic_types(topic: str) -> tuple[type[Record], ...]:
    """The record classes that share a topic."""
    return tuple(d.struct for d in declarations().values() if d.topic == topic)


@cache
def decoder(*structs: type[Record]) -> msgspec.json.Decoder[Any]:
    """A decoder for exactly these record types; unknown fields and types are refused."""
    return msgspec.json.Decoder(Union[structs])  # noqa: UP007


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""A record as the bytes that go into Kafka."""


def stamp(record: Record, now: int) -> None:
    """Writes `published_at`, the only field that is not a function of what was received."""
    msgspec.structs.force_setattr(record, "published_at", now)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _refuse_endless(struct: msgspec.Struct) -> None:
    numbers, ladders = _numbers(type(struct))
    for value in numbers(struct):
        # of a finite number, itself less itself is 0; None counts as absent
        if value is not None and value - value:
            raise ValueError(f"{type(struct).__name__} refuses {value}: {struct!r}"[:500])
    for name in ladders:
        if not isfinite(sum(chain.from_iterable(getattr(struct, name)))):
            raise ValueError(f"{type(struct).__name__} refuses a level of {name} that is not finite"[:500])


@cache
def _numbers(
    struct: type[msgspec.Struct],
) -> tuple[Callable[[Any], tuple[float | None, ...]], tuple[str, ...]]:
    """What reads a class's float fields, and the names of its fields that are levels."""
    hints = get_type_hints(struct)
    ladders = tuple(name for name, hint in hints.items() if hint == Levels)
    names = [name for name, hint in hints.items() if _is_float(hint)]
    if len(names) > 1:
        return attrgetter(*names), ladders
    return (lambda one: tuple(getattr(one, name) for name in names)), ladders


def _is_float(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_is_float(part) for part in get_args(hint))
    if get_origin(hint) is Annotated:
        return _is_float(get_args(hint)[0])
    return hint is float
