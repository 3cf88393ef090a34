"""Trades out of Kafka into ClickHouse: rows a second end to end, and whose processor they cost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.figures import Figure, tell
from bench.parts import Parts, parts, role
from cexdex.config import Config, load
from cexdex.records.trade import Trade
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import Publisher
from cexdex.runtime.logs import configure

MARKETS = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "ADA-USD", "DOGE-USD")


async def measure(*, rows: int = 100_000, repeat: int = 3) -> None:
    wall: list[float] = []
    sink: list[float] = []
    clickhouse: list[float] = []
    async with parts() as running:
        await _sunk(running)  # makes the tables
        for turn in range(repeat):
            await _publish(running.config, rows, turn)
            before = running.cpu_s("clickhouse")
            seconds, used = await _sunk(running)
            wall.append(rows / seconds)
            sink.append(rows / used)
            clickhouse.append(rows / (running.cpu_s("clickhouse") - before))
    tell(
        f"sink: {rows:,} trades from Kafka into the embedded ClickHouse",
        [
            Figure("rows a second end to end", wall, "rows/s"),
            Figure("rows a second of the sink's processor", sink, "rows/s", 100_000),
            Figure("rows a second of ClickHouse's processor", clickhouse, "rows/s"),
            Figure(
                "both together, a row",
                [1e6 / a + 1e6 / b for a, b in zip(sink, clickhouse, strict=True)],
                "µs",
            ),
        ],
    )


async def _publish(config: Config, rows: int, turn: int) -> None:
    publisher = Publisher(config, name="bench")
    await publisher.start()
    for number in range(rows):
        at = now_us()
        market = MARKETS[number % len(MARKETS)]
        publisher.publish(
            Trade(
                event_time=at,
                received_at=at,
                market=market,
                venue="binance",
                instrument=f"binance:{market}T",
                trade_id=str(turn * rows + number),
                price=65_000 + number % 1000 / 100,
                size=0.001 * (1 + number % 500),
                taker_side="buy" if number % 2 else "sell",
                quote_size=65.0 * (1 + number % 500),
            )
        )
        if publisher.full:
            await publisher.room()
    await publisher.flush()
    await publisher.stop()


async def _sunk(running: Parts) -> tuple[float, float]:
    """Stores all that is in Kafka with a sink of its own process; its seconds by the wall and by its processor."""
    process = await role("bench.sink", "store", str(running.file))
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the sink ended with {process.returncode}")
    wall, used = said.split()[-2:]
    return float(wall), float(used)


async def store(config: Config) -> None:
    from sinks.runner import run

    wall, used = time.monotonic(), time.process_time()
    await run(config, until_end=True)
    print(time.monotonic() - wall, time.process_time() - used)


def main(arguments: Sequence[str]) -> None:
    if not arguments:
        uvloop.run(measure())
        return
    configure(json=False, level="WARNING")  # to standard error: standard output is for the answer
    asyncio.run(store(load(Path(arguments[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
