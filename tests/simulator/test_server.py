"""The simulated venues over real sockets: their addresses, the browser next door, faults that need a transport."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from simulator import Venues, running
from simulator.faults import Fault, UnknownFaultError, check, fault_of

BTC = {"binance": "binance:BTC-USDT", "coinbase": "coinbase:BTC-USD", "kraken": "kraken:BTC-USD"}


@pytest.fixture
async def venues(tmp_path: Path) -> AsyncIterator[Venues]:
    async with running(seed=7, rate=300, base_port=0, truth=tmp_path / "truth.jsonl") as venues:
        yield venues


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


async def subscribed(venues: Venues, name: str) -> ClientConnection:
    path = "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade" if name == "binance" else ""
    # Coinbase's snapshot is larger than the library's own limit, as the real one is.
    socket = await connect(venues[name].ws_url + path, max_size=32 << 20, ping_interval=None)
    if name == "coinbase":
        await socket.send(json.dumps({"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USD"]}))
    if name == "kraken":
        await socket.send(
            json.dumps(
                {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 500}}
            )
        )
    return socket


async def read_until_quiet(socket: ClientConnection, seconds: float = 0.5) -> None:
    while True:
        await asyncio.wait_for(socket.recv(), seconds)


async def first_book(socket: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        async for text in socket:
            if any(word in str(text) for word in ("depthUpdate", "l2_data", '"book"')):
                return json.loads(text)


@pytest.mark.parametrize("name", ["binance", "coinbase", "kraken"])
async def test_a_client_gets_books_over_a_socket_and_listings_by_request(
    venues: Venues, http: aiohttp.ClientSession, name: str
) -> None:
    listed = {
        "binance": "/api/v3/exchangeInfo",
        "coinbase": "/api/v3/brokerage/market/products",
        "kraken": "/0/public/AssetPairs",
    }

    async with await subscribed(venues, name) as socket:
        assert await first_book(socket)
        assert "permessage-deflate" not in (socket.response.headers.get("Sec-WebSocket-Extensions") or "")
    async with http.get(venues[name].rest_url + listed[name]) as response:
        assert response.status == 200
        assert "USDT" in await response.text()
    async with http.get(venues[name].rest_url + "/nonsense") as response:
        assert response.status == 404


async def test_pages_of_other_sites_are_refused(venues: Venues, http: aiohttp.ClientSession) -> None:
    asked: list[tuple[dict[str, str], int]] = [
        ({}, 200),
        ({"Host": "localhost:8200"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8080"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ]
    for headers, status in asked:
        for url in (venues["kraken"].rest_url + "/0/public/Time", venues.control_url + "/state"):
            async with http.get(url, headers=headers) as response:
                assert response.status == status, headers


async def test_a_foreign_page_gets_no_socket(venues: Venues, http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(venues["kraken"].ws_url, headers={"Origin": "https://evil.example"})
    assert refused.value.status == 403


@pytest.mark.parametrize("name", ["binance", "coinbase", "kraken"])
async def test_disconnect_drops_every_socket_at_once(venues: Venues, name: str) -> None:
    sockets = [await subscribed(venues, name) for _ in range(2)]
    for socket in sockets:
        await first_book(socket)

    venues.fault(name, "disconnect")

    for socket in sockets:
        with pytest.raises(ConnectionClosed) as closed:
            await read_until_quiet(socket)
        assert closed.value.rcvd is None, "no close frame"
    async with await subscribed(venues, name) as anew:
        assert await first_book(anew)


async def test_a_half_open_socket_stands_but_answers_nothing(venues: Venues) -> None:
    socket = await subscribed(venues, "kraken")
    await first_book(socket)
    venues.fault("kraken", "silence")
    with pytest.raises(TimeoutError):
        await read_until_quiet(socket)
    pong = await socket.ping()
    async with await subscribed(venues, "kraken") as other:
        for _ in range(3):
            assert await first_book(other), "new sockets work"
        assert not pong.done()
        assert socket.protocol.state.name == "OPEN"
    socket.transport.abort()


async def test_refused_connections_are_dropped_for_a_while(
    venues: Venues, http: aiohttp.ClientSession
) -> None:
    venues.fault("coinbase", "refuse", seconds=0.5)
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.get(venues["coinbase"].rest_url + "/api/v3/brokerage/time")
    with pytest.raises((OSError, EOFError, Exception)):
        await connect(venues["coinbase"].ws_url)

    async def answers() -> bool:
        try:
            async with http.get(venues["coinbase"].rest_url + "/api/v3/brokerage/time") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    deadline = time.monotonic() + 5
    while not await answers():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_faults_by_request_are_checked_and_noted(
    venues: Venues, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    fault = {"venue": "kraken", "kind": "checksum", "instrument": "kraken:BTC-USD"}
    async with http.post(venues.control_url + "/fault", json=fault) as response:
        assert response.status == 200
    for wrong in (
        {"venue": "kraken", "kind": "earthquake"},
        {"venue": "binance", "kind": "checksum", "instrument": BTC["binance"]},
        [],
    ):
        async with http.post(venues.control_url + "/fault", json=wrong) as response:
            assert response.status == 400
            assert (await response.json())["error"]

    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert lines[0]["kind"] == "header"
    assert lines[0]["seed"] == 7
    assert {row["instrument"] for row in lines[0]["instruments"]} >= set(BTC.values())
    (noted,) = [line for line in lines if line["kind"] == "fault"]
    assert (noted["fault"], noted["venue"], noted["instrument"]) == ("checksum", "kraken", "kraken:BTC-USD")


async def test_scripted_faults_come_at_their_time_and_open_spreads_are_noted_at_the_end(
    tmp_path: Path,
) -> None:
    script = [fault_of({"at": 0.3, "venue": "binance", "kind": "gap", "instrument": BTC["binance"]})]
    truth = tmp_path / "truth.jsonl"
    async with running(base_port=0, truth=truth, faults=script) as venues:
        await until(lambda: '"fault"' in truth.read_text())
        # The clock is the wall's; the market may be driven on by hand.
        while venues.market.now - venues.market.started_at < 7_000_000:
            venues.step()
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    (fault,) = [line for line in lines if line["kind"] == "fault"]
    assert fault["at"] - lines[0]["started_at"] == 300_000
    spreads = [line for line in lines if line["kind"] == "spread"]
    assert spreads
    assert {
        "market",
        "buy_instrument",
        "sell_instrument",
        "started_at",
        "ended_at",
        "bps",
        "size",
        "leader",
    } <= set(spreads[0])
    assert all(spread["ended_at"] > spread["started_at"] for spread in spreads)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("okx", "gap", "okx:BTC-USDT"),
        Fault("binance", "gap"),
        Fault("binance", "gap", "kraken:BTC-USD"),
        Fault("binance", "gap", "binance:DOGE-USDT"),
        Fault("coinbase", "checksum", "coinbase:BTC-USD"),
    ],
)
def test_senseless_faults_are_refused(fault: Fault) -> None:
    with pytest.raises(UnknownFaultError):
        check(fault)


async def test_the_clock_holds_the_rate(venues: Venues) -> None:
    started, frames = time.monotonic(), venues.frames
    await until(lambda: time.monotonic() - started > 1.0)
    assert (venues.frames - frames) / (time.monotonic() - started) == pytest.approx(300, rel=0.15)
    assert abs(venues.market.now - time.time_ns() // 1000) < 200_000


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    environment = {**os.environ, "CEXDEX_PARENT_FD": str(reading)}
    command = [sys.executable, "-m", "simulator", "--port", "0", "--truth", str(tmp_path / "truth.jsonl")]
    child = subprocess.Popen(command, env=environment, pass_fds=(reading,), stderr=subprocess.PIPE, text=True)
    os.close(reading)
    assert child.stderr is not None
    try:
        lines = [child.stderr.readline() for _ in range(4)]
        assert "ws://127.0.0.1:" in lines[0]
        assert child.poll() is None
        os.close(writing)
        child.wait(timeout=10)
    finally:
        child.kill()
        child.wait()
        child.stderr.close()
