"""`sql`, `tail`, `topics`, `tables`: what is stored and what passes by."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
import uvloop

from cexdex.cli.situation import Situation
from cexdex.config import Config, load
from cexdex.records.record import declarations
from cexdex.runtime.clickhouse import ClickHouseRefusedError, password
from cexdex.runtime.datafolder import DataFolder
from cexdex.runtime.kafka import (
    TopicPartition,
    compare_topics,
    consumer,
    create_topics,
    delete_topics,
    end_offsets,
    partition_counts,
    partition_of,
    stop_consumer,
    topic_of,
)

Database = Annotated[str | None, typer.Option(help="Database, as demo or one of a replay.")]


class QueryError(Exception):
    """ClickHouse's own words for what is wrong with a query."""


def add_to(app: typer.Typer) -> None:
    app.command()(sql)
    app.command()(tail)
    app.command()(topics)
    app.command()(tables)


def sql(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A query; `-` reads it from standard input.")],
    database: Database = None,
    format: Annotated[
        str | None, typer.Option(help="Any ClickHouse format; a table on a terminal, else TSV.")
    ] = None,
) -> None:
    """Asks ClickHouse, starting it when nothing runs."""
    situation: Situation = context.obj
    text = sys.stdin.read() if query == "-" else query
    shape = format or ("PrettyCompact" if sys.stdout.isatty() else "TSVWithNames")
    uvloop.run(_sql(situation, text, database, shape))


def tail(
    context: typer.Context,
    type: Annotated[str, typer.Argument(help="A record type, as spreads or trade.")],
    market: Annotated[str | None, typer.Argument(help="Only this market.")] = None,
    database: Database = None,
    count: Annotated[int | None, typer.Option(help="End after so many.")] = None,
) -> None:
    """Prints records of a type as they are published, one JSON object a line."""
    situation: Situation = context.obj
    if type not in declarations():
        raise QueryError(f"there is no record type {type!r}; there are {', '.join(declarations())}")
    config, _ = situation.connected(database)
    uvloop.run(_tail(config, type, market, count))


def topics(
    context: typer.Context,
    create: Annotated[bool, typer.Option(help="Create what is missing.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete every topic and what is in it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    database: Database = None,
) -> None:
    """Shows the topics and how they differ from their declarations."""
    situation: Situation = context.obj
    config = situation.config(database)
    if delete:
        if not yes:
            typer.confirm(f"Delete every topic that begins with {config.topics.prefix}?", abort=True)
        for name in uvloop.run(delete_topics(config)):
            print(f"deleted {name}")
    if create:
        for name in uvloop.run(create_topics(config)):
            print(f"created {name}")
    for declaration in declarations().values():
        print(f"{declaration.type:18} {topic_of(config, declaration)}")
    if create or situation.running(database) is not None:
        differences = uvloop.run(compare_topics(config))
        for difference in differences:
            print(difference)
        print("topics are as declared" if not differences else f"{len(differences)} differences")


def tables(
    context: typer.Context,
    database: Database = None,
    create: Annotated[bool, typer.Option(help="Create and complete them.")] = False,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="Move them aside and begin anew.")] = False,
) -> None:
    """Compares the tables with the records' declarations; creates, completes or moves them aside."""
    situation: Situation = context.obj
    uvloop.run(_tables(situation, database, create, set_aside))


async def _sql(situation: Situation, query: str, database: str | None, shape: str) -> None:
    async with warehouse(situation, database) as config:
        url = config.clickhouse.url
        parameters = {"database": config.clickhouse.database, "default_format": shape}
        headers = {
            "X-ClickHouse-User": config.clickhouse.user,
            "X-ClickHouse-Key": password(config.clickhouse),
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, params=parameters, data=query.encode(), headers=headers) as answer,
        ):
            if answer.status != 200:
                raise QueryError(_said(await answer.text()))
            async for chunk in answer.content.iter_chunked(1 << 16):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _said(text: str) -> str:
    """The first line of what ClickHouse answered, without what its client puts around it."""
    line = next(iter(text.strip().splitlines()), "ClickHouse refused it without a word")
    line = re.sub(r"^Received ClickHouse exception, code: \d+, server response: ", "", line)
    return re.sub(r" \(for url \S+\)$", "", line)


@asynccontextmanager
async def warehouse(situation: Situation, database: str | None) -> AsyncIterator[Config]:
    """The configuration of a ClickHouse that answers: the running one, the configured one, or one started for this.

    Raises QueryError for what ClickHouse refuses meanwhile.
    """
    try:
        async with _warehouse(situation, database) as config:
            yield config
    except ClickHouseRefusedError as error:
        raise QueryError(_said(str(error))) from error


@asynccontextmanager
async def _warehouse(situation: Situation, database: str | None) -> AsyncIterator[Config]:
    running = situation.running(database, needed="clickhouse_url")
    if running is not None:
        config = situation.config(database)
        settings = {
            "url": running.clickhouse_url,
            "user": running.user,
            "password_file": Path(running.password_file),
            "database": database or config.clickhouse.database,
        }
        yield config.model_copy(update={"clickhouse": config.clickhouse.model_copy(update=settings)})
        return
    folder_path = situation.folder(database)
    if not (folder_path / "clickhouse").exists():
        config = situation.config(database)
        if database is not None:
            config = config.model_copy(
                update={"clickhouse": config.clickhouse.model_copy(update={"database": database})}
            )
        yield config
        return
    from embedded.clickhouse import ClickHouse
    from embedded.ports import Ports

    with DataFolder.take(folder_path, kind="sql") as folder:
        clickhouse = ClickHouse(
            folder.path / "clickhouse",
            password_file=folder.path / "clickhouse.password",
            port=Ports.free().clickhouse,
            log=folder.log("clickhouse"),
        )
        child = await clickhouse.start()
        folder.add_processes(child.processes)
        try:
            settings = {"url": clickhouse.url, "password_file": str(clickhouse.password_file)}
            if database is not None:
                settings["database"] = database
            yield load(situation.config_file, overrides={"clickhouse": settings})
        finally:
            await clickhouse.stop()


async def _tail(config: Config, type: str, market: str | None, count: int | None) -> None:
    declaration = declarations()[type]
    topic = topic_of(config, declaration)
    total = (await partition_counts(config))[topic]
    chosen = (
        [partition_of(market.encode(), total)]
        if market is not None and declaration.by_market
        else range(total)
    )
    partitions = [TopicPartition(topic, number) for number in chosen]
    wanted = None if market is None else f'"market":"{market}"'.encode()
    reader = consumer(config.kafka.servers)
    await reader.start()
    left = count
    try:
        reader.assign(partitions)
        for partition, end in (await end_offsets(reader, partitions)).items():
            reader.seek(partition, end)
        while left is None or left > 0:
            for records in (await reader.getmany(timeout_ms=500)).values():
                for record in records:
                    if dict(record.headers).get("type") != type.encode():
                        continue
                    if wanted is not None and wanted not in record.value:
                        continue
                    print(record.value.decode(), flush=True)
                    left = None if left is None else left - 1
                    if left == 0:
                        return
            await asyncio.sleep(0)
    finally:
        await stop_consumer(reader)


async def _tables(situation: Situation, database: str | None, create: bool, aside: bool) -> None:
    from sinks.schema.runner import compare_tables, prepare_tables, set_tables_aside

    async with warehouse(situation, database) as config:
        if aside:
            for sentence in await set_tables_aside(config):
                print(sentence)
        if create:
            for sentence in await prepare_tables(config):
                print(sentence)
        differences = await compare_tables(config)
        for difference in differences:
            print(difference)
        print(
            "tables are as declared"
            if not differences
            else f"{len(differences)} differences; --create mends them"
        )
