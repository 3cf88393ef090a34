"""Connections to simulated venues: lost and found again, replaced beside the old one, refused, spoilt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import serve

from cexdex.config import Config, load
from cexdex.records.instruments import Instrument
from cexdex.records.quote import Quote
from cexdex.records.record import Record
from cexdex.records.trade import Trade
from cexdex.records.venue_status import VenueStatus
from cexdex.runtime.metrics import Monitor
from cexdex.runtime.sockets import SocketClosedError, opened
from ingest.runner import run
from simulator import Venues, running

pytestmark = pytest.mark.timeout(90)


class Heard(list[Record]):
    """An outlet that keeps what it is given, and knows when something has come."""

    full = False

    def __init__(self) -> None:
        super().__init__()
        self._come = asyncio.Event()

    def publish(self, record: Record) -> None:
        self.append(record)
        self._come.set()

    def take_gaps(self) -> Sequence[Record]:
        return []

    async def room(self) -> None:
        return None

    async def until(self, condition: Callable[[], Any], within_s: float = 30.0) -> Any:
        async with asyncio.timeout(within_s):
            while not (found := condition()):
                self._come.clear()
                await self._come.wait()
            return found

    def quotes(self, instrument: str, since: int = 0) -> list[Quote]:
        return [r for r in self[since:] if isinstance(r, Quote) and r.instrument == instrument]

    def statuses(self, venue: str, kind: str, since: int = 0) -> list[VenueStatus]:
        return [r for r in self[since:] if isinstance(r, VenueStatus) and r.venue == venue and r.kind == kind]

    def live(self) -> set[str]:
        states = {r.instrument: r.state for r in self if isinstance(r, Quote)}
        return {instrument for instrument, state in states.items() if state == "live"}


def config_of(venues: Venues, *only: str) -> Config:
    paths = {"binance": "/stream", "coinbase": "", "kraken": "/v2"}
    urls = {
        name: {
            "ws_url": venues[name].ws_url.rstrip("/")
            + ("" if venues[name].ws_url.endswith(paths[name]) else paths[name]),
            "rest_url": venues[name].rest_url,
            "enabled": not only or name in only,
        }
        for name in paths
    }
    return load(overrides={"venues": urls})


@asynccontextmanager
async def followed(*only: str, **simulated: Any) -> AsyncIterator[tuple[Heard, Venues, Monitor]]:
    async with running(base_port=0, rate=200, **simulated) as venues:
        heard, monitor = Heard(), Monitor("test", port=0)
        work = asyncio.create_task(
            run(config_of(venues, *only), publisher=heard, monitor=monitor, recover=False)
        )
        try:
            yield heard, venues, monitor
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


EVERYTHING = {
    "binance:BTC-USDT", "binance:BTC-USDC", "binance:ETH-USDT", "binance:ETH-USDC", "binance:USDC-USDT",
    "coinbase:BTC-USD", "coinbase:ETH-USD", "coinbase:USDT-USD",
    "kraken:BTC-USD", "kraken:BTC-USDT", "kraken:ETH-USD", "kraken:ETH-USDT", "kraken:USDT-USD", "kraken:USDC-USD",
}  # fmt: skip


async def test_every_instrument_of_the_configured_markets_and_every_rate_source_comes_alive() -> None:
    async with followed() as (heard, _, monitor):
        await heard.until(lambda: heard.live() >= EVERYTHING)
        assert heard.live() == EVERYTHING
        listed = {r.instrument: r for r in heard if isinstance(r, Instrument)}
        assert listed.keys() == EVERYTHING | {"coinbase:BTC-USDC", "coinbase:ETH-USDC"}
        assert listed["coinbase:BTC-USDC"].alias_of == "coinbase:BTC-USD"
        assert listed["kraken:BTC-USD"].taker_fee_bps == 40
        assert listed["kraken:BTC-USD"].fee_source == "Kraken AssetPairs, lowest tier"
        assert listed["binance:BTC-USDT"].size_increment is not None
        assert monitor.problems == {}


async def test_a_lost_connection_is_empty_at_once_and_the_next_one_is_a_greater_session() -> None:
    async with followed("kraken") as (heard, venues, monitor):
        await heard.until(lambda: "kraken:BTC-USD" in heard.live())
        mark, session = len(heard), heard.quotes("kraken:BTC-USD")[-1].session
        venues.fault("kraken", "disconnect")
        empty = await heard.until(
            lambda: [q for q in heard.quotes("kraken:BTC-USD", mark) if q.state != "live"]
        )
        assert (empty[0].state, empty[0].reason, empty[0].bid, empty[0].session) == (
            "stale",
            "disconnected",
            None,
            session,
        )
        back = await heard.until(
            lambda: [q for q in heard.quotes("kraken:BTC-USD", mark) if q.session > session]
        )
        assert (back[0].state, back[0].ordinal) == ("live", 0), (
            "a successor says nothing before its first live record"
        )
        ended = await heard.until(
            lambda: [s for s in heard.statuses("kraken", "disconnected", mark) if s.ended_at]
        )
        assert ended[0].started_at < ended[0].ended_at
        await heard.until(lambda: not monitor.problems)


async def test_a_notice_is_a_replacement_without_an_invalid_moment_and_trades_come_once() -> None:
    async with followed("binance") as (heard, venues, _):
        await heard.until(lambda: "binance:BTC-USDT" in heard.live() and "binance:ETH-USDT" in heard.live())
        mark, session = len(heard), heard.quotes("binance:BTC-USDT")[-1].session
        venues.fault("binance", "shutdown")
        await heard.until(lambda: heard.statuses("binance", "replaced", mark))
        await heard.until(lambda: [q for q in heard.quotes("binance:BTC-USDT", mark) if q.session > session])
        assert all(quote.state == "live" for quote in heard.quotes("binance:BTC-USDT", mark))
        assert not heard.statuses("binance", "disconnected", mark)
        await heard.until(lambda: sum(isinstance(r, Trade) for r in heard[mark:]) > 30)
        trades = [(r.instrument, r.trade_id) for r in heard if isinstance(r, Trade)]
        assert len(trades) == len(set(trades))
        assert not [s for s in heard.statuses("binance", "gap", mark) if "trades" in s.reason]


async def test_a_venue_that_refuses_leaves_the_others_alone_and_is_named() -> None:
    async with followed() as (heard, venues, monitor):
        await heard.until(lambda: heard.live() >= EVERYTHING)
        venues.fault("coinbase", "refuse", seconds=60)
        venues.fault("coinbase", "disconnect")
        await heard.until(lambda: any("coinbase" in trouble for trouble in monitor.problems.values()))
        mark = len(heard)
        await heard.until(lambda: len(heard.quotes("kraken:BTC-USD", mark)) > 5)
        assert {i.split(":")[0] for i in heard.live()} == {"binance", "kraken"}


@pytest.mark.parametrize(
    ("venue", "kind", "instrument", "status"),
    [
        ("binance", "gap", "binance:BTC-USDT", "gap"),
        ("coinbase", "gap", "coinbase:BTC-USD", "gap"),
        ("kraken", "checksum", "kraken:BTC-USD", "checksum_failed"),
    ],
)
async def test_a_spoilt_book_is_said_and_replaced(
    venue: str, kind: str, instrument: str, status: str
) -> None:
    async with followed(venue) as (heard, venues, _):
        await heard.until(lambda: instrument in heard.live())
        mark = len(heard)
        venues.fault(venue, kind, instrument)
        [said, *_] = await heard.until(lambda: heard.statuses(venue, status, mark))
        assert said.instrument.split(":")[0] == venue
        at = heard.index(said)
        assert heard.quotes(said.instrument)[-1].received_at >= said.received_at
        before = [q for q in heard[:at] if isinstance(q, Quote) and q.instrument == said.instrument][-1]
        assert (before.state, before.bid) == ("syncing", None), "empty before anything is said of why"
        after = await heard.until(lambda: [q for q in heard.quotes(said.instrument, at) if q.state == "live"])
        assert after[0].bid is not None
        if venue == "kraken":
            assert after[0].session == before.session, "subscribed anew on the same socket"


async def test_a_dead_subscription_on_a_living_socket_is_found() -> None:
    async with followed("kraken") as (heard, venues, _):
        await heard.until(lambda: heard.live() >= {"kraken:BTC-USD", "kraken:ETH-USD"})
        mark = len(heard)
        venues.fault("kraken", "silence", "kraken:BTC-USD", seconds=30)
        stale = await heard.until(
            lambda: [q for q in heard.quotes("kraken:BTC-USD", mark) if q.state == "stale"]
        )
        assert (stale[0].reason, stale[0].bid) == ("stale_leg", None)
        assert "kraken:ETH-USD" in heard.live()
        assert heard.statuses("kraken", "stale", mark)[0].instrument == "kraken:BTC-USD"


async def test_a_frame_beyond_the_limit_ends_the_connection_with_a_sentence() -> None:
    async def flood(connection: Any) -> None:
        await connection.send("x" * 2_000_000)

    async with serve(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"ws://127.0.0.1:{port}", max_bytes=1 << 20) as socket:
            with pytest.raises(SocketClosedError, match="a frame was larger than max_frame_mb allows"):
                await socket.receive()


async def test_an_unknown_venue_in_the_configuration_is_named() -> None:
    config = load()
    odd = config.model_copy(update={"venues": {**config.venues, "mtgox": config.venues["kraken"]}})
    with pytest.raises(ValueError, match="no such venue: mtgox; there are binance, coinbase, kraken"):
        await run(odd, publisher=Heard(), monitor=Monitor("test", port=0), recover=False)
