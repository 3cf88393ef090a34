"""`status` and `doctor`: how it goes, how to connect, and what to mend."""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import dataclass

import aiohttp
import typer
import uvloop
from rich.console import Console

from cexdex.cli.lags import sink_lag
from cexdex.cli.query import Database
from cexdex.cli.situation import SIMULATOR_PORT, STAGE_PORTS, NotReadyError, Situation
from cexdex.config import Config
from cexdex.runtime.clickhouse import Warehouse
from cexdex.runtime.datafolder import Running, free_bytes
from cexdex.runtime.kafka import compare_topics, topic_name

NEEDED_BYTES = 5_000_000_000
MARKET_BYTES_A_PARTITION = 1 << 30


def add_to(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(doctor)


def status(context: typer.Context, database: Database = None) -> None:
    """Lag, ages and gaps of the running instance, and lines to paste that connect to it."""
    situation: Situation = context.obj
    config, running = situation.connected(database)
    uvloop.run(_status(config, running))


def doctor(context: typer.Context, database: Database = None) -> None:
    """Checks configuration, disk, ports, Kafka, ClickHouse and venues, and says what to do."""
    situation: Situation = context.obj
    findings = uvloop.run(_doctor(situation, database))
    console = Console(highlight=False)
    for finding in findings:
        console.print(
            f"{'ok  ' if finding.well else 'MEND'} {finding.sentence}", markup=False, soft_wrap=True
        )
    if not all(finding.well for finding in findings):
        sys.exit(1)


async def _status(config: Config, running: Running) -> None:
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    say(f"{running.kind}, process {running.pid}, {len(running.processes)} children")
    for name, port in STAGE_PORTS.items():
        say(f"  {name:8} {await _health(running.ports.get(name, port))}")
    lags = await sink_lag(config)
    behind = {topic: lag for topic, lag in lags.items() if lag}
    say(f"not stored yet: {sum(behind.values())} records" + (f" {behind}" if behind else ""))
    stored = await Warehouse.open(config.clickhouse)
    try:
        for instrument, state, reason, age in await stored.rows(
            "SELECT instrument, argMax(state, _offset), argMax(coalesce(reason, ''), _offset),"
            " (toUnixTimestamp64Micro(now64(6)) - max(received_at)) / 1e6 FROM quotes"
            " WHERE time > now() - INTERVAL 10 MINUTE GROUP BY instrument ORDER BY instrument"
        ):
            say(f"  {instrument:24} {state} {reason} last quote stored {age:.1f} s ago")
        for venue, gaps, lost in await stored.rows(
            "SELECT venue, countIf(kind = 'gap'), sum(lost) FROM venue_status FINAL"
            " WHERE time > now() - INTERVAL 1 DAY GROUP BY venue ORDER BY venue"
        ):
            say(f"  {venue}: {gaps} gaps in a day, {lost or 0} messages lost")
    finally:
        await stored.close()
    market = topic_name(config.topics.prefix, "market")
    say("\nTo connect:")
    say(f"  kafka-console-consumer --bootstrap-server {running.kafka} --topic {market}")
    database = config.clickhouse.database
    say(
        f"  curl '{running.clickhouse_url}/?database={database}' -u \"{running.user}:$(cat '{running.password_file}')\""
        " -d 'SELECT * FROM spread_now FORMAT PrettyCompact'"
    )
    say("  (who has this password can read files as you: it is for this machine alone)")


async def _health(port: int) -> str:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://127.0.0.1:{port}/health") as answer,
        ):
            body = (await answer.text()).strip()
            return "well" if answer.status == 200 else f"not well: {body[:300]}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"does not answer on port {port} ({type(error).__name__})"


@dataclass(frozen=True, slots=True)
class Finding:
    well: bool
    sentence: str


async def _doctor(situation: Situation, database: str | None) -> list[Finding]:
    config = situation.config(database)
    findings = [
        Finding(True, f"configuration: {len(config.markets)} markets, {len(config.rules)} alert rules")
    ]
    free = free_bytes(situation.data)
    findings.append(
        Finding(
            free > NEEDED_BYTES,
            f"disk: {free / 1e9:.0f} GB free where {situation.data} is; Kafka keeps at most"
            f" {config.topics.partitions * MARKET_BYTES_A_PARTITION / 1e9:.0f} GB of the market topic"
            + ("" if free > NEEDED_BYTES else "; free some or name another folder with --data"),
        )
    )
    try:
        running = situation.running(database)
        if running is None:
            findings += _ports(situation.port_offset)
            findings.append(
                Finding(True, f"nothing runs in {situation.data}; `cexdex up` or `make demo` starts it")
            )
        else:
            findings += await _parts(config, running)
    except NotReadyError as error:
        findings.append(Finding(False, str(error)))
    findings += await asyncio.gather(*(_venue(config, name) for name in config.venues))
    findings += _rates(config)
    return findings


def _ports(offset: int) -> list[Finding]:
    ports = {"Kafka": 9092, "Kafka's controller": 9093, "ClickHouse": 8123, "the simulator": SIMULATOR_PORT}
    ports.update({f"metrics of {name}": port for name, port in STAGE_PORTS.items()})
    findings = []
    for use, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port + offset))
            except OSError:
                findings.append(
                    Finding(
                        False, f"port {port + offset} for {use} is taken; stop its owner or use --port-offset"
                    )
                )
    return findings or [Finding(True, "ports: all free")]


async def _parts(config: Config, running: Running) -> list[Finding]:
    findings = []
    try:
        differences = await compare_topics(config)
        findings.append(
            Finding(
                not differences,
                f"Kafka at {running.kafka}: "
                + ("topics are as declared" if not differences else differences[0]),
            )
        )
    except Exception as error:
        findings.append(Finding(False, f"Kafka: {error}"))
    try:
        from sinks.schema.runner import compare_tables

        wrong = await compare_tables(config)
        findings.append(
            Finding(
                not wrong,
                f"ClickHouse at {running.clickhouse_url}: "
                + ("tables are as declared" if not wrong else f"{wrong[0]}; `cexdex tables --create`"),
            )
        )
    except Exception as error:
        findings.append(Finding(False, f"ClickHouse: {error}"))
    return findings


async def _venue(config: Config, name: str) -> Finding:
    from cexdex.config import assets
    from cexdex.runtime.http import Http, RequestFailedError
    from ingest.feed import venues
    from ingest.listing import followed

    settings = config.venues[name]
    if not settings.enabled:
        return Finding(True, f"{name}: switched off")
    if name not in venues():
        return Finding(
            False, f"{name}: there is no venue file of this name; take it out of the configuration"
        )
    venue, http = venues()[name], Http()
    try:
        body = await http.get(settings.rest_url + venue.listing_path)
        chosen = followed(venue.parse_listing(body, settings, assets(), 0), config, assets())
        return Finding(bool(chosen), f"{name}: lists {len(chosen)} instruments of the configured markets")
    except (RequestFailedError, ValueError) as error:
        return Finding(
            False, f"{name} cannot be reached ({error}); check the network or set enabled = false for it"
        )
    finally:
        await http.close()


def _rates(config: Config) -> list[Finding]:
    """Assets in which prices are quoted and for which no enabled venue can say what they are worth."""
    from cexdex.config import assets

    return [
        Finding(False, f"quote asset {asset} has no known kind in assets.toml and so can have no rate")
        for asset in config.quote_assets
        if assets().kind(asset) == asset and asset not in assets().rank
    ]
