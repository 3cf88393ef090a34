"""A table is its record: columns, types, DDL, and what a decoder for it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from cexdex.config import load
from cexdex.records import record as module
from cexdex.records.record import Name, Record, declarations, encode, record
from sinks.table import (
    Found,
    TableMismatchError,
    column_type,
    columns,
    compare,
    ddl,
    keep_days,
    sorting_key,
    strict,
    tables,
)
from tests.sinks.samples import AT, any_record, trade

GOLDEN = Path(__file__).parent / "ddl"
"""What each table looks like. A change here is a migration: `python -m tests.sinks.test_table` writes them anew."""


@pytest.mark.parametrize("name", tables())
def test_the_ddl_of_every_table_is_as_it_was(name: str) -> None:
    assert _ddl(name) == (GOLDEN / f"{name}.sql").read_text()


def test_there_is_no_golden_ddl_without_a_table() -> None:
    assert {file.stem for file in GOLDEN.glob("*.sql")} == set(tables())


@pytest.mark.parametrize("name", tables())
def test_the_columns_are_the_records_own_fields_and_where_it_stood_in_kafka(name: str) -> None:
    struct = tables()[name].struct
    assert [column.name for column in columns(tables()[name])] == [
        "_partition",
        "_offset",
        "type",
        *struct.__struct_fields__,
    ]
    assert set(json.loads(encode(any_record(tables()[name].type)))) == {"type", *struct.__struct_fields__}


def _ddl(name: str) -> str:
    declaration = tables()[name]
    return ddl(declaration, "cexdex", keep_days(declaration, load().keep_days, "cexdex")) + "\n"


def test_rows_are_kept_as_long_as_the_configuration_says_and_a_replays_for_ever() -> None:
    days = {name: keep_days(table, load().keep_days, "cexdex") for name, table in tables().items()}
    assert (days["books"], days["quotes"], days["spreads"]) == (3, 14, 90)
    assert keep_days(tables()["books"], {"books": 7}, "cexdex") == 7
    assert keep_days(tables()["books"], {"books": 7}, "replay_x") is None
    assert "TTL" not in ddl(tables()["instruments"], "cexdex", 5)


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (Name, "LowCardinality(String)"),
        (Name | None, "LowCardinality(Nullable(String))"),
        (str | None, "Nullable(String)"),
        (list[tuple[float, float]], "Array(Tuple(Float64, Float64))"),
        (Annotated[str, Meta(extra={"clickhouse": "UInt256"})], "UInt256"),
        (Annotated[int, Meta(extra={"clickhouse": "Int32"})] | None, "Nullable(Int32)"),
        (list[Name], "Array(LowCardinality(String))"),
    ],
)
def test_a_type_follows_from_the_annotation(hint: Any, kind: str) -> None:
    assert column_type(hint) == kind


@pytest.mark.parametrize("hint", [dict[str, int], bytes, int | str, list[int] | None])
def test_an_annotation_that_no_column_holds_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError):
        column_type(hint)


def _found(name: str, **changed: str) -> Found:
    declaration = tables()[name]
    types = {column.name: column.type for column in columns(declaration)} | changed
    key = ", ".join(sorting_key(declaration))
    return Found({n: t for n, t in types.items() if t}, key, "toDate(time)", ddl(declaration, "cexdex", 90))


def test_a_missing_column_is_added_where_it_belongs_and_a_foreign_one_is_left() -> None:
    comparison = compare(tables()["trades"], "cexdex", 90, _found("trades", price="", mine="String"))
    assert comparison.statements == [
        "ALTER TABLE `cexdex`.`trades` ADD COLUMN IF NOT EXISTS `price` Float64 CODEC(Gorilla, ZSTD(1))"
        " AFTER `trade_id`"
    ]
    assert comparison.extra == ["mine"]


def test_a_changed_type_or_order_is_refused_in_one_sentence() -> None:
    with pytest.raises(TableMismatchError, match=r"trades.price is String in cexdex where .* Float64"):
        compare(tables()["trades"], "cexdex", 90, _found("trades", price="String"))
    found = _found("trades")
    with pytest.raises(TableMismatchError, match="sorted by"):
        compare(tables()["trades"], "cexdex", 90, Found(found.columns, "time", "", found.definition))


def test_another_time_to_keep_rows_is_a_change_of_the_table() -> None:
    [statement] = compare(tables()["trades"], "cexdex", 30, _found("trades")).statements
    assert statement.endswith("MODIFY TTL toDate(time) + toIntervalDay(30)")
    [statement] = compare(tables()["trades"], "cexdex", None, _found("trades")).statements
    assert statement.endswith("REMOVE TTL")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"price":100.0', '"price":null'),
        ('"price":100.0', '"price":NaN'),
        ('"price":100.0', '"price":Infinity'),
        ('"price":100.0', '"price":1e999'),
        ('"price":100.0', '"price":"100"'),
        ('"revision":0', '"revision":9223372036854775808'),
        ('"revision":0', '"revision":18446744073709551616'),
        ('"revision":0', '"revision":1.5'),
        ('"revision":0', '"revision":1,"unknown":2'),
        ('"revision":0', '"revision":1,"_offset":2'),
        ('"taker_side":"buy"', '"taker_side":"maker"'),
        ('"type":"trade"', '"type":"quote"'),
        ('"trade_id":"1"', '"trade_id":"\\ud800"'),
        ('"price":100.0,', ""),
    ],
)
def test_what_clickhouse_would_turn_into_something_else_is_refused(old: str, new: str) -> None:
    value = encode(trade(1)).decode()
    assert strict(tables()["trades"]).decode(value)
    assert old in value
    with pytest.raises(msgspec.MsgspecError):
        strict(tables()["trades"]).decode(value.replace(old, new, 1))


@pytest.fixture
def a_new_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Record]]:
    """A record type declared in one file, forgotten again afterwards."""
    known = dict(module._declared)
    monkeypatch.setattr(module, "_declared", known)
    for cached in (module.declarations, module.declaration_of, module.topic_types):
        cached.cache_clear()

    @record(topic="funding", key="instrument", id=("instrument", "received_at"), keep_days=30)
    class Funding(Record, tag="funding", frozen=True, kw_only=True, gc=False):
        """What a position costs overnight."""

        market: Name
        instrument: Name
        rate: float | None
        interval: str = "8h"
        amount: Annotated[str, Meta(extra={"clickhouse": "Int256"})] = "0"

    yield Funding
    for cached in (module.declarations, module.declaration_of, module.topic_types):
        cached.cache_clear()


def test_adding_a_record_is_adding_one_file(a_new_record: type[Record]) -> None:
    from cexdex.runtime.topics import topics

    declaration = declarations()["funding"]
    assert [t.partitions for t in topics(load()) if t.name == "cexdex.funding.v1"] == [1]
    statement = ddl(declaration, "cexdex", 30)
    for part in (
        "`rate` Nullable(Float64)",
        "`interval` String DEFAULT '8h'",
        "`amount` Int256",
        "ORDER BY (market, time, instrument)",
        "toIntervalDay(30)",
    ):
        assert part in statement
    schema = msgspec.json.schema(declaration.struct)
    assert "instrument" in schema["$defs"]["Funding"]["properties"]
    sample = a_new_record(received_at=AT, market="BTC-USD", instrument="x:y", rate=None, amount="-5")  # type: ignore[call-arg]
    assert strict(declaration).decode(encode(sample)).amount == "-5"
    with pytest.raises(msgspec.MsgspecError):
        strict(declaration).decode(encode(sample).replace(b'"-5"', b'"5.5"'))


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for table_name in tables():
        (GOLDEN / f"{table_name}.sql").write_text(_ddl(table_name))
