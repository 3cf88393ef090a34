"""`venues` and `instruments`: what is known and listed."""

from __future__ import annotations

from typing import Annotated

import typer
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from cexdex.cli.query import Database, warehouse
from cexdex.cli.situation import Situation
from cexdex.runtime.clickhouse import Warehouse


def add_to(app: typer.Typer) -> None:
    app.command()(venues)
    app.command()(instruments)


def venues(context: typer.Context) -> None:
    """Every venue there is a file for, with its fees and limits."""
    from ingest.feed import venues as found

    situation: Situation = context.obj
    config = situation.config()
    table = _table(
        "venue", "enabled", "taker bps", "maker bps", "fee source", "as of", "checked", "documents"
    )
    for name, venue in found().items():
        settings = config.venues.get(name)
        if settings is None:
            table.add_row(name, "no settings", *[""] * 4, venue.verified, venue.documents)
            continue
        table.add_row(
            name,
            "yes" if settings.enabled else "no",
            f"{settings.taker_fee_bps:g}",
            f"{settings.maker_fee_bps:g}",
            settings.fee_source,
            settings.fee_as_of.isoformat(),
            venue.verified,
            venue.documents,
        )
    _print(table)


def instruments(
    context: typer.Context,
    asset: Annotated[str | None, typer.Argument(help="Only instruments of this asset.")] = None,
    database: Database = None,
) -> None:
    """What is listed, as ClickHouse knows it."""
    situation: Situation = context.obj
    uvloop.run(_instruments(situation, asset, database))


async def _instruments(situation: Situation, asset: str | None, database: str | None) -> None:
    async with warehouse(situation, database) as config:
        stored = await Warehouse.open(config.clickhouse)
        try:
            rows = await stored.rows(
                "SELECT instrument, symbol, market, status, price_increment, size_increment, min_size, min_notional,"
                " taker_fee_bps, alias_of FROM instruments FINAL"
                " WHERE {asset:String} IN ('', base_asset, quote_asset) ORDER BY market, instrument",
                {"asset": (asset or "").upper()},
            )
        finally:
            await stored.close()
    table = _table(
        "instrument", "symbol", "market", "status", "price step", "size step", "min size", "min notional", "taker bps",
        "alias of",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            *(
                "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
                for value in row
            )
        )
    _print(table)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    console.print(table)
