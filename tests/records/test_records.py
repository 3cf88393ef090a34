"""A record is what it is declared to be, or it is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import jsonschema
import msgspec
import pytest

import cexdex.records
from cexdex.records.alerts import Alert
from cexdex.records.book import Book
from cexdex.records.quote import Quote
from cexdex.records.record import (
    Declaration,
    Record,
    declaration_of,
    declarations,
    decoder,
    encode,
    record,
    stamp,
    topic_types,
)
from cexdex.records.schema import json_schema
from cexdex.records.trade import Trade
from tests.records.sample import AT, sample

ALL = list(declarations().values())
each_record = pytest.mark.parametrize("declared", ALL, ids=[d.type for d in ALL])


@each_record
def test_a_record_comes_back_from_its_bytes(declared: Declaration) -> None:
    made = sample(declared.struct)
    assert decoder(declared.struct).decode(encode(made)) == made


@each_record
def test_its_bytes_are_what_its_schema_says(declared: Declaration) -> None:
    schema = json_schema(declared)
    jsonschema.validate(json.loads(encode(sample(declared.struct))), schema, jsonschema.Draft202012Validator)


@each_record
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_is_refused(declared: Declaration, number: float) -> None:
    for name in declared.struct.__struct_fields__:
        if isinstance(getattr(sample(declared.struct), name), float):
            with pytest.raises(ValueError, match="refuses"):
                sample(declared.struct, **{name: number})


@each_record
def test_an_unknown_field_is_refused(declared: Declaration) -> None:
    document = json.loads(encode(sample(declared.struct))) | {"surprise": 1}
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        decoder(declared.struct).decode(json.dumps(document))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json_schema(declared), jsonschema.Draft202012Validator)


@each_record
def test_a_wrong_type_is_refused_field_by_field(declared: Declaration) -> None:
    right = json.loads(encode(sample(declared.struct)))
    for name in right:
        wrong = right | {name: {"neither": "this nor that"}}
        with pytest.raises(msgspec.ValidationError):
            decoder(declared.struct).decode(json.dumps(wrong))


@each_record
def test_what_must_be_there_is_missed(declared: Declaration) -> None:
    right = json.loads(encode(sample(declared.struct)))
    for name in set(json_schema(declared)["required"]) - {"type"}:
        with pytest.raises(msgspec.ValidationError):
            decoder(declared.struct).decode(json.dumps({k: v for k, v in right.items() if k != name}))


@each_record
def test_a_record_cannot_be_changed(declared: Declaration) -> None:
    made = sample(declared.struct)
    with pytest.raises(AttributeError):
        made.received_at = 1
    stamp(made, AT + 5)
    assert made.published_at == AT + 5


@each_record
def test_key_id_and_time_are_fields_that_are_never_null(declared: Declaration) -> None:
    schema = json_schema(declared)["properties"]
    for name in (*declared.key, *declared.id, declared.time):
        assert name in declared.struct.__struct_fields__
        if name != "event_time":
            assert {"type": "null"} not in schema[name].get("anyOf", []), name


@each_record
def test_an_id_does_not_hang_on_when_it_was_published(declared: Declaration) -> None:
    assert "published_at" not in declared.id
    made, again = sample(declared.struct), sample(declared.struct, published_at=AT + 9)
    assert declared.id_of(made) == declared.id_of(again)
    assert declared.key_of(made) == declared.key_of(again)


@each_record
def test_what_shares_a_topic_shares_its_key_and_version(declared: Declaration) -> None:
    together = [declaration_of(struct) for struct in topic_types(declared.topic)]
    assert {(d.key, d.compact, d.version) for d in together} == {
        (declared.key, declared.compact, declared.version)
    }


def test_a_compact_topic_is_keyed_by_what_is_kept() -> None:
    for declared in ALL:
        if declared.dateless:
            assert declared.compact
            assert set(declared.key) == set(declared.id)


def test_one_table_and_one_type_for_each_record() -> None:
    assert len({d.table for d in ALL}) == len(ALL)
    assert len({d.struct for d in ALL}) == len(ALL)


def test_keys() -> None:
    assert declaration_of(Trade).key_of(sample(Trade, market="BTC-USD")) == b"BTC-USD"
    alert = sample(Alert, rule="r", edge="binance:BTC-USDT>kraken:BTC-USD", size="10000")
    assert declaration_of(Alert).key_of(alert) == b"r|binance:BTC-USDT>kraken:BTC-USD|10000"


def test_ids() -> None:
    trade = sample(Trade, instrument="binance:BTC-USDT", trade_id="42")
    assert declaration_of(Trade).id_of(trade) == ("binance:BTC-USDT", "42")
    quote = sample(Quote, instrument="kraken:BTC-USD", session=AT, ordinal=0)
    assert declaration_of(Quote).id_of(quote) == ("kraken:BTC-USD", AT, 0)


def test_a_null_in_an_id_is_the_empty_text() -> None:
    by_hash = dataclasses.replace(declaration_of(Trade), key=("tx_hash",), id=("instrument", "tx_hash"))
    trade = sample(Trade, instrument="kraken:BTC-USD", tx_hash=None)
    assert by_hash.id_of(trade) == ("kraken:BTC-USD", "")
    assert by_hash.key_of(trade) == b""


def test_a_market_s_events_stand_in_one_topic_under_one_key() -> None:
    assert {Trade, Quote, Book} <= set(topic_types("market"))
    assert all(declaration_of(struct).key == ("market",) for struct in topic_types("market"))


def test_without_its_type_a_record_of_a_shared_topic_is_nothing() -> None:
    document = {k: v for k, v in json.loads(encode(sample(Trade))).items() if k != "type"}
    with pytest.raises(msgspec.ValidationError, match="type"):
        decoder(*topic_types("market")).decode(json.dumps(document))


def test_one_decoder_tells_the_types_of_a_topic_apart() -> None:
    decode = decoder(*topic_types("market")).decode
    made: list[Record] = [sample(Trade), sample(Quote), sample(Book)]
    assert [type(decode(encode(each))) for each in made] == [Trade, Quote, Book]


def test_a_type_is_declared_once() -> None:
    class Other(Record, tag="trade", frozen=True, kw_only=True):
        pass

    with pytest.raises(ValueError, match="declared twice"):
        record(topic="market", key="market", id="market")(Other)


def test_every_module_of_the_package_declares_what_it_is_named_for() -> None:
    named = {d.struct.__module__.rsplit(".", 1)[1]: d.type for d in ALL}
    assert all(module == type for module, type in named.items())
    package = Path(str(cexdex.records.__file__)).parent
    files = {path.stem for path in package.glob("*.py")} - {"__init__", "record", "schema"}
    assert files == set(named)
