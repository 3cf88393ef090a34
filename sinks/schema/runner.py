"""Makes a database what the declarations say it is."""

from __future__ import annotations

from datetime import UTC, datetime

from cexdex.config import Config
from cexdex.runtime.clickhouse import Warehouse
from cexdex.runtime.clock import now_us
from sinks.table import Found, TableMismatchError, compare, ddl, keep_days, set_aside, tables
from sinks.view import views


async def prepare_tables(config: Config) -> list[str]:
    """Creates the database, its tables and views, and adds missing columns; answers with what it did, in words.

    Raises TableMismatchError for what cannot be added, and the Warehouse's errors.
    """
    database = config.clickhouse.database
    server = await Warehouse.open(config.clickhouse, database="")
    try:
        await server.command(f"CREATE DATABASE IF NOT EXISTS `{database}` ENGINE = Atomic")
    finally:
        await server.close()
    warehouse = await Warehouse.open(config.clickhouse)
    done: list[str] = []
    try:
        found = await _found(warehouse, database)
        for name, declaration in tables().items():
            keep = keep_days(declaration, config.keep_days, database)
            if name not in found:
                await warehouse.command(ddl(declaration, database, keep))
                done.append(f"table {name} created")
                continue
            for statement in compare(declaration, database, keep, found[name]).statements:
                await warehouse.command(statement)
                done.append(statement)
        for view in views():
            await warehouse.command(view.ddl(database))
    finally:
        await warehouse.close()
    return done


async def compare_tables(config: Config) -> list[str]:
    """What differs between the declarations and the server, a sentence each; changes nothing."""
    database = config.clickhouse.database
    warehouse = await Warehouse.open(config.clickhouse, database="")
    differences: list[str] = []
    try:
        found = await _found(warehouse, database)
    finally:
        await warehouse.close()
    for name, declaration in tables().items():
        if name not in found:
            differences.append(f"table {database}.{name} does not exist; `cexdex tables --create` makes it")
            continue
        try:
            comparison = compare(
                declaration, database, keep_days(declaration, config.keep_days, database), found[name]
            )
        except TableMismatchError as error:
            differences.append(str(error))
            continue
        differences += [f"{name} lacks: {statement}" for statement in comparison.statements]
        differences += [
            f"{database}.{name}.{column} belongs to no record any more" for column in comparison.extra
        ]
    return differences


async def set_tables_aside(config: Config) -> list[str]:
    """Renames every declared table that exists, so that new ones start empty; answers with the new names."""
    database = config.clickhouse.database
    stamp = datetime.fromtimestamp(now_us() / 1e6, UTC).strftime("%Y%m%d_%H%M%S")
    warehouse = await Warehouse.open(config.clickhouse, database="")
    moved: list[str] = []
    try:
        found = await _found(warehouse, database)
        for name, declaration in tables().items():
            if name in found:
                await warehouse.command(set_aside(declaration, database, stamp))
                moved.append(f"{database}.{name}_until_{stamp}")
    finally:
        await warehouse.close()
    return moved


async def _found(warehouse: Warehouse, database: str) -> dict[str, Found]:
    columns: dict[str, dict[str, str]] = {}
    for table, name, kind in await warehouse.rows(
        "SELECT table, name, type FROM system.columns WHERE database = {database:String}",
        {"database": database},
    ):
        columns.setdefault(table, {})[name] = kind
    return {
        table: Found(columns[table], sorting_key, partition_key, definition)
        for table, sorting_key, partition_key, definition in await warehouse.rows(
            "SELECT name, sorting_key, partition_key, create_table_query FROM system.tables"
            " WHERE database = {database:String} AND engine LIKE '%MergeTree'",
            {"database": database},
        )
    }
