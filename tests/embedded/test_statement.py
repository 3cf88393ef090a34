"""What the front sees in a statement."""

import pytest

from embedded.statement import read_statement


@pytest.mark.parametrize(
    ("text", "verb", "output_format", "carries_data"),
    [
        (b"SELECT 1", "SELECT", "", False),
        (b" /* a */ -- b\n select 1 format JSONEachRow", "SELECT", "JSONEachRow", False),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1;", "SELECT", "CSV", False),
        (b"SELECT 'FORMAT JSON' AS s", "SELECT", "", False),
        (b"SELECT x AS format FROM t", "SELECT", "", False),
        (b"SELECT format('{}', 1)", "SELECT", "", False),
        (b"WITH 1 AS a SELECT a", "WITH", "", False),
        (b"INSERT INTO t FORMAT JSONEachRow\n{}", "INSERT", "", True),
        (b"insert into t (a, `format`) settings async_insert=0 values (1, ';')", "INSERT", "", True),
        (b"INSERT INTO t SELECT 1", "INSERT", "", False),
        (b"CREATE TABLE t (a Int8) ENGINE = Memory", "CREATE", "", False),
        (b"", "", "", False),
    ],
)
def test_reads_verb_format_and_data(text: bytes, verb: str, output_format: str, carries_data: bool) -> None:
    statement = read_statement(text)
    assert (statement.verb, statement.output_format, statement.carries_data) == (
        verb,
        output_format,
        carries_data,
    )


@pytest.mark.parametrize(
    "text",
    [
        b"CREATE TABLE k (a Int8) ENGINE=Kafka",
        b"CREATE TABLE k (a Int8) engine = /* hidden */ kafka('x:9092', 't', 'g', 'CSV')",
        b"CREATE TABLE k (a Int8) ENGINE -- here\n = `Kafka`",
        b"ATTACH TABLE k (a Int8) ENGINE Kafka SETTINGS kafka_broker_list = 'x'",
    ],
)
def test_refuses_the_kafka_engine(text: bytes) -> None:
    refusal = read_statement(text).refusal()
    assert refusal is not None
    assert refusal[0] == 48
    assert refusal[1].startswith("ENGINE = Kafka is not for the embedded ClickHouse")


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 'CREATE TABLE k ENGINE=Kafka'",
        b"SELECT 1 -- ENGINE=Kafka; x",
        b"INSERT INTO t FORMAT TSV\nENGINE=Kafka; a",
        b"INSERT INTO t VALUES ('a; ENGINE=Kafka')",
        b"SELECT 1 ; \n",
        b"SELECT 1;",
        b"SELECT ';'';\\';' AS a",
    ],
)
def test_does_not_refuse_text_that_only_looks_like_it(text: bytes) -> None:
    assert read_statement(text).refusal() is None


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1; SELECT 2",
        b"SELECT 1;; DROP TABLE t",
        b"INSERT INTO t VALUES (1); CREATE TABLE k (a Int8) ENGINE=Memory",
    ],
)
def test_refuses_several_statements(text: bytes) -> None:
    assert read_statement(text).refusal() == (
        62,
        "Multi-statements are not allowed; send them one by one. (SYNTAX_ERROR)",
    )


def test_totals_are_not_streamed() -> None:
    assert read_statement(b"SELECT a, count() FROM t GROUP BY a").streamable
    assert not read_statement(b"SELECT a, count() FROM t GROUP BY a WITH TOTALS").streamable
    assert not read_statement(b"SHOW TABLES").streamable
