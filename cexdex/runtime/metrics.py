"""A stage's Prometheus metrics and health over HTTP, on loopback, and how late its event loop runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest

from cexdex.runtime.door import doorkeeper

LAG_STEP_S = 0.1
LAG_WINDOW = 100

_lag = Gauge("cexdex_loop_lag_seconds", "greatest delay of the event loop in the last 10 s", ["stage"])
_well = Gauge("cexdex_healthy", "1 while the stage has no problem", ["stage"])


class PortTakenError(Exception):
    """The port is in use; one sentence names it."""


class Monitor:
    """Serves /metrics and /health of one stage. port 0: a free one, told by `port` after start."""

    def __init__(self, stage: str, *, port: int, host: str = "127.0.0.1") -> None:
        self.stage = stage
        self.port = port
        self._host = host
        self._problems: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._watch: asyncio.Task[None] | None = None

    def problem(self, part: str, sentence: str) -> None:
        """Says what is wrong with a part (kafka, clickhouse, a table); /health answers 503 until `well(part)`."""
        self._problems[part] = sentence
        _well.labels(self.stage).set(0)

    def well(self, part: str) -> None:
        """The part works."""
        self._problems.pop(part, None)
        _well.labels(self.stage).set(0 if self._problems else 1)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by part."""
        return dict(self._problems)

    async def start(self) -> None:
        """Listens. Raises PortTakenError."""
        app = web.Application(
            middlewares=[doorkeeper(hosts=() if self._host == "127.0.0.1" else (self._host,))]
        )
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise PortTakenError(
                f"port {self.port} for the metrics of {self.stage} is taken; --port-offset moves all ports"
            ) from error
        self.port = self._runner.addresses[0][1]
        _well.labels(self.stage).set(0 if self._problems else 1)
        self._watch = asyncio.create_task(self._watch_lag(), name=f"loop lag of {self.stage}")

    async def stop(self) -> None:
        """Stops listening."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._runner is not None:
            await self._runner.cleanup()

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        recent: list[float] = []
        while True:
            due = loop.time() + LAG_STEP_S
            await asyncio.sleep(LAG_STEP_S)
            recent = [*recent[-LAG_WINDOW + 1 :], max(0.0, loop.time() - due)]
            _lag.labels(self.stage).set(max(recent))

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, _: web.Request) -> web.Response:
        body = {"stage": self.stage, "ok": not self._problems, "problems": self._problems}
        return web.json_response(body, status=503 if self._problems else 200)
