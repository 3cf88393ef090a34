"""`demo` and `up`: Kafka, ClickHouse and every stage on one machine, and what a desk wants to see meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from cexdex.cli.lags import sink_lag
from cexdex.cli.screen import Screen
from cexdex.cli.situation import SIMULATOR_PORT, STAGE_PORTS, Situation, narrowed
from cexdex.cli.summary import Summary
from cexdex.cli.usage import Usage
from cexdex.config import Config, load
from cexdex.runtime.children import Child, spawn
from cexdex.runtime.datafolder import DataFolder, require_free
from cexdex.runtime.kafka import create_topics

LOCAL_PARTITIONS = 4
GIGABYTE = 1_000_000_000
SIMULATED = "simulated"
RESTARTS = 5
RESTARTS_WITHIN_S = 60.0
"""A stage that ends by itself more often than this is not started again."""
Markets = Annotated[list[str] | None, typer.Option("--market", help="Follow this market; may be repeated.")]


def add_to(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(up)


def demo(
    context: typer.Context,
    seconds: Annotated[
        float | None, typer.Option(help="End after so long, counted from the first frame.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Frames a second over all venues.")] = 300.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same market.")] = 7,
    deliver: Annotated[
        bool, typer.Option(help="Tell the configured targets too, not the terminal alone.")
    ] = False,
    market: Markets = None,
) -> None:
    """Everything at once on simulated venues, without a network."""
    situation: Situation = context.obj
    uvloop.run(_demo(situation, seconds, rate, seed, deliver, market))


def up(context: typer.Context, market: Markets = None) -> None:
    """Everything on one machine, on the live venues, until Ctrl-C."""
    situation: Situation = context.obj
    uvloop.run(_up(situation, market))


async def _demo(
    situation: Situation,
    seconds: float | None,
    rate: float,
    seed: int,
    deliver: bool,
    markets: list[str] | None,
) -> None:
    console = Console(highlight=False, soft_wrap=True)
    folder = situation.folder("demo")
    require_free(folder, 2 * GIGABYTE, "the demo")
    truth = folder / "truth.jsonl"
    with DataFolder.take(folder, kind="demo") as owned:
        owned.empty()
        base = SIMULATOR_PORT + situation.port_offset
        urls = {
            "binance": {"ws_url": f"ws://127.0.0.1:{base}/stream", "rest_url": f"http://127.0.0.1:{base}"},
            "coinbase": {"ws_url": f"ws://127.0.0.1:{base + 1}", "rest_url": f"http://127.0.0.1:{base + 1}"},
            "kraken": {"ws_url": f"ws://127.0.0.1:{base + 2}/v2", "rest_url": f"http://127.0.0.1:{base + 2}"},
        }
        async with AsyncExitStack() as stack:
            everything = await stack.enter_async_context(
                _everything(
                    situation,
                    owned,
                    console,
                    overrides={"venues": urls, "clickhouse": {"database": "demo"}},
                    markets=markets,
                    notify=[] if deliver else ["--terminal-only"],
                )
            )
            argv = ["simulator", "--seed", str(seed), "--rate", str(rate), "--port", str(base)]
            await everything.start("simulator", [sys.executable, "-m", *argv, "--truth", str(truth)])
            await everything.start_ingest()
            await everything.watch(console, seconds=seconds, label=SIMULATED)
            await everything.drain()
            summary = await Summary.read(everything.config, everything.usage, everything.screen, truth)
            console.print(summary.text())
        console.print(_afterwards(), markup=False)


async def _up(situation: Situation, markets: list[str] | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    require_free(situation.data, 5 * GIGABYTE, "`cexdex up`")
    with DataFolder.take(situation.data, kind="up") as owned:
        async with _everything(
            situation, owned, console, overrides={}, markets=markets, notify=[]
        ) as everything:
            await everything.start_ingest()
            await everything.watch(console, seconds=None, label="live", keep=True)
            await everything.drain()


@dataclass
class Everything:
    """The stages that run together, as children of this process."""

    folder: DataFolder
    config: Config
    config_file: Path
    port_offset: int
    usage: Usage = field(default_factory=Usage)
    parts: list[Child] = field(default_factory=list)
    """Kafka and ClickHouse: without them nothing goes on."""
    children: dict[str, Child] = field(default_factory=dict)
    _commands: dict[str, list[str]] = field(default_factory=dict)
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self.screen = Screen(self.config)

    async def start_stage(self, name: str, *arguments: str) -> None:
        offset = ["--port-offset", str(self.port_offset)]
        command = [
            sys.executable,
            "-m",
            "cexdex",
            "--config",
            str(self.config_file),
            *offset,
            name,
            *arguments,
        ]
        await self.start(name, command)

    async def start_ingest(self) -> None:
        await self.start_stage("ingest")

    async def start(self, name: str, command: list[str]) -> None:
        self._commands[name] = command
        child = await spawn(name, command, log=self.folder.log(name))
        self.children[name] = child
        self.folder.add_processes(child.processes)
        self.usage.follow(name, child.pid)

    async def watch(self, console: Console, *, seconds: float | None, label: str, keep: bool = False) -> None:
        """Shows the screen until Ctrl-C, SIGTERM or `seconds` after the first frame.

        A child that ends by itself ends everything, with its last words; with `keep` a stage is started again, for a
        stage loses nothing by it: it goes on where its commits stand.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        stopping = asyncio.create_task(stop.wait())
        showing = asyncio.create_task(
            self.screen.show(
                console,
                seconds=seconds,
                label=label,
                usage=self.usage,
                ports={name: port + self.port_offset for name, port in STAGE_PORTS.items()},
            )
        )
        watching = [
            asyncio.create_task(self._mind(name, keep and name in STAGE_PORTS)) for name in self.children
        ]
        watching += [asyncio.create_task(self._ends(child)) for child in self.parts]
        tasks: list[asyncio.Task[Any]] = [stopping, showing, *watching]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[1:]:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _mind(self, name: str, keep: bool) -> None:
        began: deque[float] = deque(maxlen=RESTARTS)
        while True:
            child = self.children[name]
            await child.wait()
            now = asyncio.get_running_loop().time()
            too_often = len(began) == RESTARTS and now - began[0] < RESTARTS_WITHIN_S
            if not keep or too_often:
                raise child.ended_error()
            began.append(now)
            self.screen.note(f"{child.ended_error()} It is started again.")
            await asyncio.sleep(1.0)
            self.folder.drop_processes(child.processes)
            await self.start(name, self._commands[name])

    async def _ends(self, child: Child) -> None:
        await child.wait()
        raise child.ended_error()

    async def drain(self) -> None:
        """Ends the stages in the order of the flow, so that what is in Kafka is in ClickHouse at the end."""
        self.usage.sample()
        for name in ("ingest", "simulator"):
            await self._end(name)
        await self.screen.settle()
        await self._end("process")
        await self._end("notify")
        await self._sunk()
        await self._end("sink")

    async def _end(self, name: str) -> None:
        child = self.children.pop(name, None)
        if child is not None:
            await child.stop(15.0)

    async def _sunk(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while sum((await sink_lag(self.config)).values()):  # noqa: ASYNC110 - it is a broker that is asked
                    await asyncio.sleep(0.2)


@asynccontextmanager
async def _everything(
    situation: Situation,
    folder: DataFolder,
    console: Console,
    *,
    overrides: dict[str, Any],
    markets: list[str] | None,
    notify: list[str],
) -> AsyncIterator[Everything]:
    """Kafka, ClickHouse and every stage but ingest; all are gone when the context ends."""
    from embedded.machine import machine
    from embedded.ports import Ports

    async with AsyncExitStack() as stack:
        with console.status("starting Kafka and ClickHouse"):
            running = await stack.enter_async_context(
                machine(folder, ports=Ports.offset(situation.port_offset), cache=situation.cache)
            )
        config = load(
            situation.config_file,
            overrides={
                **overrides,
                "kafka": {"servers": running.kafka},
                "topics": {"partitions": LOCAL_PARTITIONS},
                "clickhouse": {
                    "url": running.clickhouse_url,
                    "user": running.user,
                    "password_file": str(folder.running.password_file),
                    **overrides.get("clickhouse", {}),
                },
            },
        )
        config = narrowed(config, markets)
        config_file = folder.path / "config.json"
        config_file.write_text(json.dumps(config.model_dump(mode="json")))
        os.chmod(config_file, 0o600)
        await create_topics(config)
        everything = Everything(folder, config, config_file, situation.port_offset)
        for child in running.children:
            everything.usage.follow(child.name, child.pid)
        try:
            await everything.start_stage("sink")
            await everything.start_stage("process")
            await everything.start_stage("notify", *notify)
            folder.announce(ports={name: port + situation.port_offset for name, port in STAGE_PORTS.items()})
            yield everything
        finally:
            await asyncio.gather(*(child.stop(10.0) for child in everything.children.values()))


def _afterwards() -> str:
    queries = (
        "SELECT market, buy, sell, max(net_converted_bps) AS best_bps, count() AS records FROM spreads"
        " WHERE valid GROUP BY ALL ORDER BY best_bps DESC LIMIT 5",
        "SELECT instrument, avg(spread_bps) AS spread_bps, avg(bid_depth_10bps) AS bid_depth_10bps FROM liquidity"
        " WHERE valid GROUP BY instrument ORDER BY spread_bps",
        "SELECT rule, edge, state, round(value, 1) AS bps, time FROM alerts ORDER BY time DESC LIMIT 5",
    )
    # as it was called, where the command is not on the PATH
    command = "cexdex" if shutil.which("cexdex") else ".venv/bin/cexdex"
    lines = "\n".join(f'  {command} sql --database demo "{query}"' for query in queries)
    return f"\nThree queries to try (they start what they need):\n{lines}\n"
