"""The one clock, the sockets and the control door of the simulated venues."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiohttp import WSMsgType, web

from simulator.binance import Binance
from simulator.coinbase import Coinbase
from simulator.faults import Fault, UnknownFaultError, check, fault_of
from simulator.kraken import Kraken
from simulator.market import STEP_US, Market
from simulator.neighbours import only_local
from simulator.truth import Truth
from simulator.wire import SWITCHING, Close, Connection, Ping, Pong, Text, Venue

PORTS = {"binance": 0, "coinbase": 1, "kraken": 2, "control": 10}
_BEHIND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Address:
    """What stands in for the venue's own addresses, up to the path that the venue documents."""

    ws_url: str
    rest_url: str


class Venues:
    """The running venues: their addresses, their model, and the faults that can be asked for."""

    def __init__(self, market: Market, venues: list[Venue], truth: Truth, script: list[Fault]) -> None:
        self.market = market
        self.venues = {venue.name: venue for venue in venues}
        self.addresses: dict[str, Address] = {}
        self.control_url = ""
        self.frames = 0
        """Frames of the standard feeds since the start, whether anybody listens or not."""
        self.clock: asyncio.Task[None] | None = None
        """Ends only with an error, which whoever waits for the venues should see."""
        self.truth = truth
        self._script = sorted(script, key=lambda fault: fault.at or 0.0)
        self._outboxes: dict[Connection, _Outbox] = {}

    def __getitem__(self, venue: str) -> Address:
        return self.addresses[venue]

    def fault(
        self, venue: str, kind: str, instrument: str | None = None, seconds: float | None = None
    ) -> None:
        """Have a venue do something wrong, now."""
        fault = Fault(venue, kind, instrument, seconds)
        check(fault)
        self._cause(fault)

    def step(self) -> None:
        """Five milliseconds of the market, told to everybody."""
        market = self.market
        while self._script and market.now - market.started_at >= (self._script[0].at or 0.0) * 1e6:
            self._cause(self._script.pop(0))
        for change in market.step():
            self.frames += change.frames
            self.venues[change.listing.venue].publish(change)
        for venue in self.venues.values():
            venue.tick(market.now)
        for plant in market.ended:
            self.truth.spread(plant, plant.ends_at)
        market.ended.clear()
        for outbox in self._outboxes.values():
            outbox.wake()

    def hang_up(self) -> None:
        for connection, outbox in self._outboxes.items():
            connection.abort()
            outbox.wake()

    def close(self) -> None:
        for plant in self.market.close():
            self.truth.spread(plant, self.market.now)
        self.truth.close()

    def _cause(self, fault: Fault) -> None:
        venue, now = self.venues[fault.venue], self.market.now
        until = now + int(fault.lasts * 1e6)
        match fault.kind:
            case "gap":
                venue.disturbance.gap(fault.instrument or "")
            case "checksum":
                venue.disturbance.checksum(fault.instrument or "")
            case "silence" if fault.instrument is not None:
                venue.disturbance.silence(fault.instrument, until)
            case "silence":
                # Whole sockets: half-open for good, while new ones work.
                for connection in venue.connections():
                    connection.dead = True
            case "disconnect":
                for connection in venue.connections():
                    connection.abort()
            case "shutdown":
                venue.shut_down(now, fault.lasts)
            case "crossed":
                self.market.cross(fault.instrument or "", fault.lasts)
            case "refuse":
                venue.disturbance.refused_until = until
        self.truth.fault(fault, now)

    # Handlers

    async def serve(self, venue: Venue, request: web.Request, deflate: bool) -> web.StreamResponse:
        """One request of a client: a socket, or REST."""
        now = _wall()
        if now < venue.disturbance.refused_until:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        path = request.rel_url.path
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(venue, request, path, deflate, now)
        if request.method != "GET":
            return web.Response(status=405)
        reply = venue.get(path, request.query, now)
        return web.Response(
            body=reply.body, status=reply.status, headers=reply.headers, content_type="application/json"
        )

    async def _socket(
        self, venue: Venue, request: web.Request, path: str, deflate: bool, now: int
    ) -> web.StreamResponse:
        connection = Connection()
        status = venue.opened(connection, path, request.query, now)
        if status != SWITCHING:
            return web.Response(status=status)
        # Pings are answered here, so that a half-open socket can leave them unanswered.
        socket = web.WebSocketResponse(autoping=False, compress=deflate, max_msg_size=1 << 20)
        outbox = _Outbox(connection, socket, request)
        self._outboxes[connection] = outbox
        writing: asyncio.Task[None] | None = None
        try:
            await socket.prepare(request)
            writing = asyncio.create_task(outbox.run())
            outbox.wake()
            async for message in socket:
                if connection.dead:
                    continue
                if message.type is WSMsgType.TEXT:
                    venue.received(connection, message.data, _wall())
                elif message.type is WSMsgType.PING:
                    connection.pong(bytes(message.data))
                    venue.ponged(connection, _wall())
                elif message.type is WSMsgType.PONG:
                    venue.ponged(connection, _wall())
                outbox.wake()
        finally:
            venue.closed(connection)
            del self._outboxes[connection]
            if writing is not None:
                writing.cancel()
        return socket

    async def control(self, request: web.Request) -> web.Response:
        try:
            fault = fault_of(orjson.loads(await request.read()))
        except (UnknownFaultError, orjson.JSONDecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        self._cause(fault)
        return web.json_response({"at": self.market.now, "seconds": fault.lasts})

    async def state(self, request: web.Request) -> web.Response:
        market = self.market
        return web.json_response(
            {
                "seed": market.seed,
                "rate": market.rate,
                "seconds": (market.now - market.started_at) / 1e6,
                "frames": self.frames,
                "venues": {
                    name: {
                        "ws_url": self.addresses[name].ws_url,
                        "rest_url": self.addresses[name].rest_url,
                        "connections": len(venue.connections()),
                        "sent": sum(connection.sent for connection in venue.connections()),
                    }
                    for name, venue in self.venues.items()
                },
            }
        )


@contextlib.asynccontextmanager
async def running(
    *,
    seed: int = 7,
    rate: float = 300.0,
    base_port: int = 8200,
    host: str = "127.0.0.1",
    truth: Path | None = None,
    faults: Iterable[Fault] = (),
    allowed_hosts: Iterable[str] = (),
    deflate: bool = False,
    spreads: bool = True,
    weight_per_minute: int = 6_000,
) -> AsyncIterator[Venues]:
    """Venues on `base_port` and the ports after it; 0 takes free ones."""
    market = Market(seed, rate, _wall(), spreads)
    venues = Venues(
        market,
        [Binance(market, weight_per_minute), Coinbase(market), Kraken(market)],
        Truth(truth, market),
        list(faults),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(venues.close)
        # The model begins at a whole second: what has passed of it is history before anybody listens.
        while market.now + STEP_US <= _wall():
            venues.step()
        for venue in venues.venues.values():
            application = _application(allowed_hosts)
            application.router.add_route("*", "/{path:.*}", _handler(venues, venue, deflate))
            port = await _listen(stack, application, host, _port(base_port, venue.name))
            suffix = "/v2" if venue.name == "kraken" else ""
            venues.addresses[venue.name] = Address(
                f"ws://{_shown(host)}:{port}{suffix}", f"http://{_shown(host)}:{port}"
            )
        control = _application(allowed_hosts)
        control.router.add_post("/fault", venues.control)
        control.router.add_get("/state", venues.state)
        port = await _listen(stack, control, host, _port(base_port, "control"))
        venues.control_url = f"http://{_shown(host)}:{port}"
        clock = venues.clock = asyncio.create_task(_clock(venues))
        try:
            yield venues
        finally:
            venues.hang_up()
            clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await clock


async def _clock(venues: Venues) -> None:
    """Keep the market at the wall clock. After a long pause it goes on from where it is, not through what it missed."""
    market = venues.market
    while True:
        behind = _wall() - market.now
        if behind > _BEHIND_US:
            # Whole seconds, so that event times stay true to the second's windows.
            market.skip(behind - behind % 1_000_000)
        while market.now + STEP_US <= _wall():
            venues.step()
            # Between the steps of a burst the sockets get their turn.
            await asyncio.sleep(0)
        await asyncio.sleep(max(0.0, (market.now + STEP_US - _wall()) / 1e6))


class _Outbox:
    """Writes what waits on one connection, and ends it when told to."""

    def __init__(self, connection: Connection, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._connection = connection
        self._socket = socket
        self._request = request
        self._ready = asyncio.Event()

    def wake(self) -> None:
        if self._connection.aborted:
            if self._request.transport is not None:
                self._request.transport.abort()
        elif self._connection.waiting:
            self._ready.set()

    async def run(self) -> None:
        waiting, socket = self._connection.waiting, self._socket
        with contextlib.suppress(ConnectionError):
            while True:
                await self._ready.wait()
                self._ready.clear()
                while waiting and not self._connection.dead:
                    match waiting.popleft():
                        case Text(data):
                            await socket.send_frame(data, WSMsgType.TEXT)
                        case Ping(payload):
                            await socket.ping(payload)
                        case Pong(payload):
                            await socket.pong(payload)
                        case Close(code, reason):
                            await socket.close(code=code, message=reason.encode())


def _handler(
    venues: Venues, venue: Venue, deflate: bool
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await venues.serve(venue, request, deflate)

    return handle


def _application(allowed_hosts: Iterable[str]) -> web.Application:
    return web.Application(middlewares=[only_local(frozenset(allowed_hosts))], client_max_size=64 << 10)


async def _listen(
    stack: contextlib.AsyncExitStack, application: web.Application, host: str, port: int
) -> int:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host, port)
    await site.start()
    return int(runner.addresses[0][1])


def _port(base_port: int, name: str) -> int:
    return base_port + PORTS[name] if base_port else 0


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def _wall() -> int:
    return time.time_ns() // 1000
