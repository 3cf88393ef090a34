"""`replay` and `capture`: recordings through the whole pipeline, and frames into a recording."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress

from cexdex.cli.situation import Situation, narrowed
from cexdex.cli.together import LOCAL_PARTITIONS
from cexdex.config import Config, ConfigError, assets, load
from cexdex.records.record import Record, declarations
from cexdex.runtime.clickhouse import Warehouse
from cexdex.runtime.clock import now_us
from cexdex.runtime.datafolder import DataFolder
from cexdex.runtime.kafka import Publisher, create_topics, delete_topics
from cexdex.runtime.logs import configure

if TYPE_CHECKING:
    from ingest.recording import Line, Player

PAUSE_EVERY = 200
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


class ReplayRefusedError(Exception):
    """The replay would destroy something or cannot begin; the sentence says what to do."""


class CaptureFailedError(Exception):
    """There is no recording, or it ended early; the sentence says what to check."""


def add_to(app: typer.Typer) -> None:
    app.command()(replay)
    app.command()(capture)


def replay(
    context: typer.Context,
    recordings: Annotated[
        list[Path], typer.Argument(help="Folders with frames.jsonl.gz and recording.json.")
    ],
    speed: Annotated[str, typer.Option(help="How many times as fast as it was, or `max`.")] = "max",
    align: Annotated[bool, typer.Option(help="Move every recording to the first one's beginning.")] = False,
    database: Annotated[
        str | None, typer.Option(help="replay_NAME is where the rows go.", show_default="the time")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Empty the database first when it exists.")] = False,
    rate: Annotated[
        list[str] | None, typer.Option(help="Assume an asset's USD rate, as USDT=0.9995.")
    ] = None,
    markets: Annotated[list[str] | None, typer.Option("--markets", help="Only these markets.")] = None,
) -> None:
    """Plays recordings through feeds, Kafka, processors and sinks into topics and a database of their own."""
    situation: Situation = context.obj
    factor = _speed(speed)
    assumed = _rates(rate or [])
    name = database or f"{datetime.now(UTC):%Y%m%d_%H%M%S}"
    # the prefix keeps it apart from live data: its rows never expire, and its views say `replay`
    name = name if name.startswith("replay_") else f"replay_{name}"
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a replay's database; use lower case, digits and _")
    configure(json=False, level="WARNING")
    uvloop.run(_replay(situation, recordings, factor, align, name, replace, assumed, markets))


def capture(
    context: typer.Context,
    venue: Annotated[str, typer.Argument(help="The venue to record.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the recording.")],
    seconds: Annotated[float, typer.Option(help="How long.")] = 60.0,
    market: Annotated[list[str] | None, typer.Option("--market", help="Only this market.")] = None,
) -> None:
    """Records a venue's frames in the format that `replay` reads."""
    situation: Situation = context.obj
    config = narrowed(situation.config(), market)
    if venue not in config.venues:
        raise ConfigError(f"there is no venue {venue!r}; there are {', '.join(config.venues)}")
    if folder.exists():
        raise ConfigError(f"{folder} exists; name a new folder for the recording")
    configure(json=False, level="WARNING")
    uvloop.run(_capture(config, venue, folder, seconds))


async def _replay(
    situation: Situation,
    paths: list[Path],
    speed: float | None,
    align: bool,
    database: str,
    replace: bool,
    rates: dict[str, float],
    markets: list[str] | None,
) -> None:
    import processors.runner
    import sinks.runner
    from ingest.recording import Player, Recording, look_into

    console = Console(highlight=False)
    opened = [Recording.open(path) for path in paths]
    if align:
        first = opened[0].first_t()
        opened = [recording.aligned(first) for recording in opened]
        console.print(
            "These recordings were moved onto each other: what they show together was not simultaneous."
        )
    async with _machine(situation, database) as config:
        await _make_room(config, replace)
        wanted = set(markets) if markets else None
        contents = [look_into(recording, config, assets(), wanted) for recording in opened]
        await create_topics(config, kept_for_ever=True)
        players = [Player(r, c, config, assets()) for r, c in zip(opened, contents, strict=True)]
        published = await _publish(config, players, speed, console)
        with console.status("processing"):
            processed = await processors.runner.run(config, rates=rates, until_end=True)
        with console.status("storing"):
            await sinks.runner.run(config, until_end=True)
        await _report(console, config, players, published, processed)


async def _publish(
    config: Config,
    players: list[Player],
    speed: float | None,
    console: Console,
) -> Counter[str]:
    from ingest.recording import play

    publisher = Publisher(config, name="replay")
    await publisher.start()
    published: Counter[str] = Counter()
    try:
        started, began = now_us(), None
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("replaying", total=None)
            for number, played in enumerate(play(players)):
                if speed is not None and number:  # the first are the listings
                    began = played.at if began is None else began
                    ahead = (played.at - began) / speed - (now_us() - started)
                    if ahead > 0:
                        await asyncio.sleep(ahead / 1e6)
                for record in played.records:
                    publisher.publish(record)
                    published[str(type(record).__struct_config__.tag)] += 1
                if publisher.full:
                    await publisher.room()
                elif number % PAUSE_EVERY == 0:
                    progress.update(task, advance=PAUSE_EVERY)
                    await asyncio.sleep(0)
        await publisher.flush()
    finally:
        await publisher.stop()
    return published


async def _make_room(config: Config, replace: bool) -> None:
    """A database that exists is somebody's work: it is emptied only when asked to be."""
    database = config.clickhouse.database
    stored = await Warehouse.open(config.clickhouse, database="system")
    try:
        [(exists,)] = await stored.rows(
            "SELECT count() FROM system.databases WHERE name = {name:String}", {"name": database}
        )
        if exists and not replace:
            raise ReplayRefusedError(
                f"the database {database} exists; name another with --database or add --replace"
            )
        if exists:
            await stored.command(f"DROP DATABASE `{database}` SYNC")
    finally:
        await stored.close()
    await delete_topics(config)


async def _report(
    console: Console, config: Config, players: list[Player], published: Counter[str], processed: Any
) -> None:
    """What was counted, so that sums can be checked."""

    def say(title: str, counts: dict[str, int] | Counter[str]) -> None:
        shown = "  ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
        console.print(f"{title}: {shown or 'none'}", markup=False, soft_wrap=True)

    for player in players:
        say(str(player.recording.path), player.counts)
    say("published by feeds", published)
    say("published by processors", processed.published)
    say("dropped or late in processors", processed.counts)
    stored = await Warehouse.open(config.clickhouse)
    try:
        rows = {}
        for declaration in declarations().values():
            [(count,)] = await stored.rows(f"SELECT count() FROM `{declaration.table}` FINAL")
            rows[declaration.table] = int(count)
        say("rows", rows)
        validity = await stored.rows(
            "SELECT if(valid, 'valid', assumeNotNull(reason)), count() FROM spreads FINAL GROUP BY 1"
        )
        say("spreads", {str(reason): int(count) for reason, count in validity})
        fired = await stored.rows(
            "SELECT rule, edge, round(value, 1), time FROM alerts FINAL WHERE state = 'firing' AND deliver"
            " ORDER BY time LIMIT 20"
        )
        for rule, edge, value, at in fired:
            console.print(f"alert {rule}: {edge} {value} bps at {at}", markup=False, soft_wrap=True)
    finally:
        await stored.close()
    console.print(
        f'cexdex sql --database {config.clickhouse.database} "SELECT * FROM spread_history LIMIT 10"'
    )


@asynccontextmanager
async def _machine(situation: Situation, database: str) -> AsyncIterator[Config]:
    """The configuration of a running instance with topics and a database of the replay's own, started if need be."""
    own = {"topics": {"prefix": f"cexdex.{database}.", "partitions": LOCAL_PARTITIONS}}
    running = situation.running()
    if running is not None:
        yield load(
            situation.config_file,
            overrides={
                **own,
                "kafka": {"servers": running.kafka},
                "clickhouse": {
                    "url": running.clickhouse_url,
                    "user": running.user,
                    "password_file": running.password_file,
                    "database": database,
                },
            },
        )
        return
    from embedded.machine import machine
    from embedded.ports import Ports

    with DataFolder.take(situation.data, kind="replay") as folder:
        async with machine(folder, ports=Ports.free(), cache=situation.cache) as started:
            yield load(
                situation.config_file,
                overrides={
                    **own,
                    "kafka": {"servers": started.kafka},
                    "clickhouse": {
                        "url": started.clickhouse_url,
                        "user": started.user,
                        "password_file": str(folder.running.password_file),
                        "database": database,
                    },
                },
            )


async def _capture(config: Config, venue: str, folder: Path, seconds: float) -> None:
    import ingest.runner
    from cexdex.runtime.metrics import Monitor

    only = {
        name: settings.model_copy(update={"enabled": name == venue})
        for name, settings in config.venues.items()
    }
    config = config.model_copy(update={"venues": only})
    folder.mkdir(parents=True)
    counts: Counter[str] = Counter()
    first: list[int] = []
    monitor = Monitor("capture", port=0)
    with gzip.open(folder / "frames.jsonl.gz", "wb") as file:

        def tap(_: str, line: Line) -> None:
            first.append(line.t) if not first else None
            counts[line.dir] += 1
            file.write(msgspec.json.encode(line) + b"\n")

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        work = asyncio.create_task(
            ingest.runner.run(config, publisher=Nowhere(), monitor=monitor, recover=False, tap=tap)
        )
        stopping = asyncio.create_task(stop.wait())
        with Console().status(f"recording {venue} for {seconds:g} s into {folder}"):
            await asyncio.wait({work, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, stopping):
            task.cancel()
        await asyncio.gather(work, stopping, return_exceptions=True)
    died = None if work.cancelled() else work.exception()
    why = str(_cause(died)) if died is not None else "; ".join(monitor.problems.values())
    if not counts["recv"]:
        shutil.rmtree(folder)
        settings, markets = config.venues[venue], ", ".join(config.markets)
        raise CaptureFailedError(
            f"nothing was received from {venue}{f' ({why})' if why else ''}, so there is no recording; check that"
            f" {settings.ws_url} and {settings.rest_url} can be reached and that {venue} lists {markets}"
        ) from died
    now = now_us()
    about = {
        "venue": venue,
        "what": f"captured by cexdex: {', '.join(config.markets)}",
        "source": config.venues[venue].ws_url,
        "first_us": first[0] if first else now,
        "last_us": now,
        "seconds": round((now - (first[0] if first else now)) / 1e6, 1),
        "counts": dict(counts),
    }
    (folder / "recording.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{folder}: {dict(counts)}")
    if died is not None:
        raise CaptureFailedError(
            f"the recording of {venue} ended early ({why}); {folder} has what came until then"
        ) from died


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Nowhere:
    """A publisher for capture, where frames are kept and records are not."""

    full = False

    def publish(self, record: Record) -> None:
        pass

    def take_gaps(self) -> list[Record]:
        return []

    async def room(self) -> None:
        pass


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    with suppress(ValueError):
        if (factor := float(text)) > 0:
            return factor
    raise ConfigError(f"--speed takes a number above 0 or `max`, not {text!r}")


def _rates(texts: list[str]) -> dict[str, float]:
    rates = {}
    for text in texts:
        asset, _, value = text.partition("=")
        with suppress(ValueError):
            if asset and 0 < (rate := float(value)) < inf:
                rates[asset.upper()] = rate
                continue
        raise ConfigError(f"--rate takes ASSET=USD, as USDT=0.9995, not {text!r}")
    return rates
