"""The examples do what they say, on the real parts."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cexdex.config import Config, Target, load
from cexdex.records.record import Record, decoder
from cexdex.records.spreads import Spread
from cexdex.records.trade import Trade
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import Publisher, create_topics
from embedded.machine import Machine
from embedded.ports import Ports
from sinks.notify import runner as notifier
from sinks.notify.message import sample
from sinks.notify.webhook import signed
from sinks.runner import run as store

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECRET = "whsec_" + base64.b64encode(b"a secret of the desk and nobody else").decode()


@pytest.fixture
def config(machine: Machine, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Config:
    monkeypatch.setenv("CEXDEX_CLICKHOUSE_PASSWORD", machine.password)
    name = f"{request.node.name.removeprefix('test_')[:30]}_{os.getpid()}"
    return load(
        overrides={
            "kafka": {"servers": machine.kafka},
            "topics": {"prefix": f"{name}.", "partitions": 2},
            "clickhouse": {"url": machine.clickhouse_url, "user": machine.user, "database": name},
        }
    )


@asynccontextmanager
async def running(script: str, *arguments: str, **environment: str) -> AsyncIterator[asyncio.StreamReader]:
    """An example in a process of its own, and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / script),
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def first_line(output: asyncio.StreamReader, publish: Callable[[], None]) -> str:
    """Its first line, with records published until it has found its place in the topic."""
    reading = asyncio.create_task(output.readline())
    async with asyncio.timeout(30):
        while not reading.done():
            publish()
            await asyncio.wait([reading], timeout=0.3)
    return reading.result().decode().strip()


@asynccontextmanager
async def publisher(config: Config) -> AsyncIterator[Publisher]:
    await create_topics(config)
    publisher = Publisher(config, name="test")
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def trade(number: int, market: str, instrument: str) -> Trade:
    return Trade(
        event_time=now_us(),
        received_at=now_us(),
        market=market,
        venue=instrument.split(":")[0],
        instrument=instrument,
        trade_id=str(number),
        price=2500.5,
        size=0.25,
        taker_side="sell",
        quote_size=625.125,
    )


def spread(**changes: Any) -> Spread:
    """A spread of which only the fields that a test is about are given."""
    now = now_us()
    plain: dict[str, Any] = {
        "type": "spreads", "received_at": now, "market": "BTC-USD", "source_offset": 0,
        "edge": "kraken:BTC-USD>coinbase:BTC-USD", "ordinal": 0, "buy": "kraken:BTC-USD", "sell": "coinbase:BTC-USD",
        "buy_fee_bps": 0, "sell_fee_bps": 0, "fixed_cost_usd": 0, "rate_state": "live", "sizes": [], "valid": True,
    }  # fmt: skip
    absent = {field: None for field in Spread.__struct_fields__ if field not in plain}
    made = decoder(Spread).decode(msgspec.json.encode({**absent, "published_at": now, **plain, **changes}))
    assert isinstance(made, Spread)
    return made


async def test_spreads_are_printed_when_they_can_be_believed(config: Config) -> None:
    async with (
        publisher(config) as into,
        running("spreads.py", config.kafka.servers, f"{config.topics.prefix}spreads.v1") as output,
    ):

        def publish() -> None:
            into.publish(spread(valid=False, reason="stale_leg"))
            into.publish(spread(net_converted_bps=12.34))

        line = await first_line(output, publish)
    assert line == "kraken:BTC-USD>coinbase:BTC-USD +12.3 bps after all costs"


async def test_trades_of_one_market_are_printed(config: Config) -> None:
    async with (
        publisher(config) as into,
        running(
            "trades_of_a_market.py", "ETH-USD", config.kafka.servers, f"{config.topics.prefix}market.v1"
        ) as output,
    ):

        def publish() -> None:
            into.publish(trade(1, "BTC-USD", "binance:BTC-USDT"))
            into.publish(trade(2, "ETH-USD", "kraken:ETH-USD"))

        line = await first_line(output, publish)
    assert line == "kraken:ETH-USD sell 0.25 at 2500.5"


async def test_the_query_shows_the_best_spread_of_every_edge(
    config: Config, machine: Machine, tmp_path: Path
) -> None:
    other = {"edge": "coinbase:BTC-USD>kraken:BTC-USD", "buy": "coinbase:BTC-USD", "sell": "kraken:BTC-USD"}
    rows: list[Record] = [
        spread(net_bps=1.0, net_converted_bps=1.0),
        spread(net_bps=3.0, net_converted_bps=3.0),
        spread(net_bps=9.0, net_converted_bps=9.0, valid=False, reason="stale_leg"),
        spread(net_bps=5.0, net_converted_bps=5.0, **other),
    ]
    async with publisher(config) as into:
        for row in rows:
            into.publish(row)
        await into.flush()
    await store(config, until_end=True)
    (tmp_path / "password").write_text(machine.password + "\n")
    arguments = (config.clickhouse.database, str(machine.ports.clickhouse), str(tmp_path / "password"))
    async with running("query.py", *arguments) as output:
        printed = (await output.read()).decode().splitlines()
    assert [line.split() for line in printed[1:]] == [[other["edge"], "5.0"], [rows[0].edge, "3.0"]]  # type: ignore[attr-defined]


async def test_the_webhook_prints_what_notify_signs(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_SECRET", SECRET)
    port = Ports.free().clickhouse
    target = Target(target="desk", kind="webhook", url=f"http://127.0.0.1:{port}/", secret_env="DESK_SECRET")
    config = config.model_copy(update={"targets": [target]})
    async with publisher(config) as into, running("webhook.py", str(port), WEBHOOK_SECRET=SECRET) as output:
        telling = asyncio.create_task(notifier.run(config))
        line = await first_line(output, lambda: into.publish(sample(now_us())))
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    assert line == "FIRING test BTC-USD +5.00 bps"


@pytest.mark.parametrize("fault", [None, "secret", "body", "age"])
async def test_the_webhook_believes_only_what_is_signed_and_new(fault: str | None) -> None:
    port = Ports.free().clickhouse
    body = b'{"data": {"title": "FIRING", "text": "now"}}'
    secret = "whsec_" + base64.b64encode(b"of somebody else").decode() if fault == "secret" else SECRET
    at = time.time_ns() // 1000 - (600_000_000 if fault == "age" else 0)
    made = signed(body, f"http://127.0.0.1:{port}/", "alert_1", [secret], at)
    if fault == "body":
        body = body.replace(b"now", b"n0w")
    async with running("webhook.py", str(port), WEBHOOK_SECRET=SECRET) as output:
        answers = [await posted(port, made.headers, body) for _ in range(2)]
        if fault is None:
            assert await output.readline() == b"FIRING\n"
            assert await output.readline() == b"now\n"
            with pytest.raises(TimeoutError):  # the second is the same message
                await asyncio.wait_for(output.readline(), 0.3)
    assert answers == [204, 204] if fault is None else answers == [401, 401]


async def posted(port: int, headers: dict[str, str], body: bytes) -> int:
    """The status that a receiver answers, once it listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
    lines = [f"{name}: {value}" for name, value in {**headers, "content-length": str(len(body))}.items()]
    writer.write("\r\n".join(["POST / HTTP/1.0", *lines, "", ""]).encode() + body)
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status
