"""`ingest`, `process`, `sink`, `notify`: one stage each, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

import structlog
import typer
import uvloop

from cexdex.cli.situation import STAGE_PORTS, Situation
from cexdex.config import Config
from cexdex.runtime.children import end_with_parent
from cexdex.runtime.kafka import Publisher
from cexdex.runtime.logs import configure
from cexdex.runtime.metrics import Monitor

log = structlog.get_logger(__name__)

Work = Callable[[Config, Monitor, asyncio.Event], Awaitable[object]]
Host = Annotated[str, typer.Option(help="Where metrics and health listen.")]


def add_to(app: typer.Typer) -> None:
    app.command()(ingest)
    app.command()(process)
    app.command()(sink)
    app.command()(notify)


def ingest(context: typer.Context, metrics_host: Host = "127.0.0.1") -> None:
    """Venues to Kafka."""

    async def work(config: Config, monitor: Monitor, stop: asyncio.Event) -> None:
        import ingest.runner as stage

        publisher = Publisher(config, name="ingest", on_full="thin")
        await publisher.start()
        try:
            await _until(stop, stage.run(config, publisher=publisher, monitor=monitor))
        finally:
            await publisher.stop()

    _stage(context, "ingest", metrics_host, work)


def process(
    context: typer.Context,
    metrics_host: Host = "127.0.0.1",
    group: Annotated[bool, typer.Option(help="Share the partitions with others of the group.")] = False,
) -> None:
    """Kafka to Kafka: rates, spreads, liquidity, candles, alerts."""

    async def work(config: Config, monitor: Monitor, stop: asyncio.Event) -> None:
        import processors.runner as stage

        await stage.run(config, stop=stop, group=group)

    _stage(context, "process", metrics_host, work)


def sink(
    context: typer.Context,
    metrics_host: Host = "127.0.0.1",
    group: Annotated[bool, typer.Option(help="Share the partitions with others of the group.")] = False,
) -> None:
    """Kafka to ClickHouse."""

    async def work(config: Config, monitor: Monitor, stop: asyncio.Event) -> None:
        import sinks.runner as stage

        await _until(stop, stage.run(config, shared=group, monitor=monitor))

    _stage(context, "sink", metrics_host, work)


def notify(
    context: typer.Context,
    metrics_host: Host = "127.0.0.1",
    terminal_only: Annotated[bool, typer.Option(help="Tell nobody but the terminal.")] = False,
) -> None:
    """Alerts to people."""

    async def work(config: Config, monitor: Monitor, stop: asyncio.Event) -> None:
        import sinks.notify.runner as stage

        await _until(stop, stage.run(config, deliver=not terminal_only, monitor=monitor))

    _stage(context, "notify", metrics_host, work)


def _stage(context: typer.Context, name: str, host: str, work: Work) -> None:
    end_with_parent()
    configure(json=not sys.stderr.isatty())
    situation: Situation = context.obj
    config = situation.config()
    uvloop.run(_run(name, config, STAGE_PORTS[name] + situation.port_offset, host, work))


async def _run(name: str, config: Config, port: int, host: str, work: Work) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    monitor = Monitor(name, port=port, host=host)
    await monitor.start()
    log.info("started", stage=name, metrics=f"http://{host}:{monitor.port}/metrics")
    try:
        await work(config, monitor, stop)
    finally:
        await monitor.stop()
        log.info("ended", stage=name)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    """Runs `work` until it ends or `stop` is set; then cancels it and waits for its own end."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()
