"""From a frame's arrival to its spread readable in Kafka, beside two bare Kafka round trips at the same load.

Five processes as they are deployed: Kafka, a publisher of quotes, the process stage, a bare relay, a reader. Stretches of
the one and of the other follow each other in one run. `python -m bench.pipeline` measures, with a role it is a part.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.figures import Figure, percentile, tell
from bench.market import Market, references
from bench.parts import PARTITIONS, Parts, parts, plain_topics, role
from cexdex.config import Config, load
from cexdex.records.record import declaration_of, decoder
from cexdex.records.spreads import Spread
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import Publisher, topic_of
from cexdex.runtime.logs import configure

FIRST, SECOND = "bench.first", "bench.second"
FILLING = b"x" * 300
SETTLE_US = 700_000
"""The first moments of a stretch are not counted."""
POINT_US = 100_000
VENUES = 5


@dataclass
class Plan:
    """When which kind runs, and how many frames a second."""

    rate: int
    stretches: list[tuple[str, int, int]]
    """Kind, first and last microsecond."""

    def kind(self, at: int) -> str:
        return next((kind for kind, start, end in self.stretches if start <= at < end), "")

    def number(self, at: int) -> int:
        """The stretch of which `at` is a settled moment; -1 for none."""
        found = [n for n, (_, start, end) in enumerate(self.stretches) if start + SETTLE_US <= at < end]
        return found[0] if found else -1

    @property
    def moments(self) -> list[int]:
        """The beginning of each stretch, and the end."""
        return [*(start for _, start, _ in self.stretches), self.end]

    @property
    def end(self) -> int:
        return self.stretches[-1][2]


@dataclass
class Seen:
    """What the reader saw of one stretch, in milliseconds from the arrival."""

    readable: list[float] = field(default_factory=list)
    handed_over: list[float] = field(default_factory=list)
    """Until the process stage had made the spread."""


async def measure(*, rate: int = 1000, seconds: float = 4.0, repeat: int = 3) -> None:
    async with parts(markets=["BTC-USD", "ETH-USD"], rules=[]) as running:
        await plain_topics(running.config.kafka.servers, FIRST, SECOND)
        processes = {name: await role("bench.pipeline", name, str(running.file)) for name in ROLES}
        try:
            for each in processes.values():
                await asyncio.wait_for(_line(each), 60)
            begin = now_us() + 2_000_000
            length = int(seconds * 1e6)
            kinds = ["bare", "ours"] * repeat
            stretches = [(kind, begin + n * length, begin + (n + 1) * length) for n, kind in enumerate(kinds)]
            plan = Plan(rate, stretches)
            _tell(plan, await _play(running, processes, plan))
        finally:
            for each in processes.values():
                if each.returncode is None:
                    each.kill()
                    await each.wait()


async def _play(running: Parts, processes: dict[str, Process], plan: Plan) -> dict[str, Any]:
    for each in processes.values():
        assert each.stdin is not None
        each.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
    kafka = []
    for moment in plan.moments:
        await asyncio.sleep(max(0.0, (moment - now_us()) / 1e6))
        kafka.append(running.cpu_s("kafka"))
    answers = {name: json.loads(await _line(each)) for name, each in processes.items()}
    return {**answers, "kafka": kafka}


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a part of the benchmark ended with {await process.wait()}")
    return line


def _tell(plan: Plan, answers: dict[str, Any]) -> None:
    by_kind: dict[str, list[Seen]] = defaultdict(list)
    for (kind, _, _), seen in zip(plan.stretches, answers["reader"], strict=True):
        by_kind[kind].append(Seen(**seen))

    def over(kind: str, share: float, what: str = "readable") -> list[float]:
        return [percentile(getattr(seen, what), share) for seen in by_kind[kind] if getattr(seen, what)]

    bare50, bare99, ours50, ours99 = (
        over("bare", 0.5),
        over("bare", 0.99),
        over("ours", 0.5),
        over("ours", 0.99),
    )
    seconds = (plan.stretches[0][2] - plan.stretches[0][1] - SETTLE_US) / 1e6
    spreads = [len(seen.readable) / seconds for seen in by_kind["ours"]]
    figures = [
        Figure("two bare round trips, p50", bare50, "ms"),
        Figure("two bare round trips, p99", bare99, "ms"),
        Figure("frame → spread readable, p50", ours50, "ms"),
        Figure("frame → spread readable, p99", ours99, "ms", 50, "less"),
        Figure("p50 of ours over the bare one's beside it", _ratios(ours50, bare50), "×", 2, "less"),
        Figure("p99 of ours over the bare one's beside it", _ratios(ours99, bare99), "×"),
        Figure("frame → spread made, p50", over("ours", 0.5, "handed_over"), "ms"),
        Figure("frame → spread made, p99", over("ours", 0.99, "handed_over"), "ms"),
        Figure("spreads a second that quotes caused", spreads, "/s"),
    ]
    for name in ("quotes", "process", "relay", "kafka"):
        used = answers[name]
        for kind in ("ours", "bare"):
            cores = [
                (after - before) / ((end - start) / 1e6)
                for (of, start, end), before, after in zip(plan.stretches, used, used[1:], strict=False)
                if of == kind
            ]
            if (name, kind) not in (("process", "bare"), ("relay", "ours")):
                what = "bare producer" if (name, kind) == ("quotes", "bare") else name
                figures.append(Figure(f"cores of {what}, {kind}", cores, "cores"))
    tell(f"pipeline: {plan.rate:,} frames/s of 2 markets, {VENUES} venues each, linger 0", figures)


def _ratios(ours: Sequence[float], bare: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, bare, strict=True)]


async def usage(plan: Plan) -> list[float]:
    """Processor seconds of this process at the start of each stretch and at the end."""
    used = []
    for moment in plan.moments:
        await asyncio.sleep(max(0.0, (moment - now_us()) / 1e6))
        used.append(time.process_time())
    return used


async def told() -> Plan:
    """Says that this part is ready; answers when it is to do what."""
    _say("ready")
    plan = Plan(**json.loads(await asyncio.to_thread(sys.stdin.readline)))
    plan.stretches = [(kind, start, end) for kind, start, end in plan.stretches]
    return plan


async def play_quotes(config: Config) -> None:
    """Publishes quotes, with ladders every 100 ms and the rates' sources every second; else the bare messages."""
    session = now_us()
    markets = [Market(base, VENUES, session, seed) for seed, base in enumerate(("BTC", "ETH"))]
    publisher = Publisher(config, name="ingest", on_full="thin")
    await publisher.start()
    bare = AIOKafkaProducer(
        bootstrap_servers=config.kafka.servers,
        linger_ms=0,
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
    )
    await bare.start()
    for market in markets:
        for listing in market.listings(session):
            publisher.publish(listing)
    plan = await told()
    used = asyncio.create_task(usage(plan))
    sent, next_second, next_point = 0, 0, 0
    begin = plan.stretches[0][1]
    while (now := now_us()) < plan.end:
        if now >= next_second:
            next_second = now + 1_000_000
            for reference in references(now, session):
                publisher.publish(reference)
        kind = plan.kind(now)
        if kind == "ours" and now >= next_point:
            next_point = now + POINT_US
            for market in markets:
                for book in market.books(now):
                    if book.bids[0][0] > 0:
                        publisher.publish(book)
        due = max(0, (now - begin) * plan.rate // 1_000_000)
        for number in range(max(sent, due - 50), due):
            if kind == "ours":
                publisher.publish(markets[number % len(markets)].next_quote(now_us()))
            elif kind == "bare":
                await bare.send(FIRST, str(now_us()).encode() + FILLING, partition=0)
        sent = due
        await asyncio.sleep(0.001)
    await bare.stop()
    await publisher.stop()
    _say(await used)


async def process(config: Config) -> None:
    from processors.runner import run

    stop, ready = asyncio.Event(), asyncio.Event()
    stage = asyncio.create_task(run(config, stop=stop, ready=ready))
    await ready.wait()
    used = await usage(await told())
    stop.set()
    await stage
    _say(used)


async def relay(config: Config) -> None:
    tp = TopicPartition(FIRST, 0)
    reader = await _reading(config, tp)
    producer = AIOKafkaProducer(
        bootstrap_servers=config.kafka.servers,
        linger_ms=0,
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
    )
    await producer.start()
    plan = await told()
    used = asyncio.create_task(usage(plan))
    while now_us() < plan.end:
        for messages in (await reader.getmany(timeout_ms=200)).values():
            for message in messages:
                await producer.send(SECOND, message.value, partition=0)
    await producer.stop()
    await reader.stop()
    _say(await used)


async def read(config: Config) -> None:
    """Reads spreads and the relay's messages, each partition with a consumer of its own."""
    plan = await told()
    seen = [Seen() for _ in plan.stretches]
    name = topic_of(config, declaration_of(Spread))
    decode = decoder(Spread).decode

    async def spreads(tp: TopicPartition) -> None:
        reader = await _reading(config, tp)
        while now_us() < plan.end + 500_000:
            for messages in (await reader.getmany(timeout_ms=200)).values():
                now = now_us()
                for message in messages:
                    spread = decode(message.value)
                    at = spread.received_at
                    # Those of a full 100 ms are of a point in time, not of a quote.
                    if at % POINT_US and (number := plan.number(at)) >= 0:
                        seen[number].readable.append((now - at) / 1e3)
                        seen[number].handed_over.append((spread.published_at - at) / 1e3)
        await reader.stop()

    async def bare() -> None:
        reader = await _reading(config, TopicPartition(SECOND, 0))
        while now_us() < plan.end + 500_000:
            for messages in (await reader.getmany(timeout_ms=200)).values():
                now = now_us()
                for message in messages:
                    at = int(message.value[: -len(FILLING)])
                    if (number := plan.number(at)) >= 0:
                        seen[number].readable.append((now - at) / 1e3)
        await reader.stop()

    await asyncio.gather(bare(), *(spreads(TopicPartition(name, number)) for number in range(PARTITIONS)))
    _say([asdict(each) for each in seen])


async def _reading(config: Config, tp: TopicPartition) -> AIOKafkaConsumer:
    reader = AIOKafkaConsumer(bootstrap_servers=config.kafka.servers, enable_auto_commit=False)
    await reader.start()
    reader.assign([tp])
    reader.seek(tp, 0)
    return reader


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


ROLES = {"quotes": play_quotes, "process": process, "relay": relay, "reader": read}


def main(arguments: Sequence[str]) -> None:
    if not arguments:
        uvloop.run(measure())
        return
    configure(json=False)  # to standard error: standard output is for the answers
    name, file = arguments
    uvloop.run(ROLES[name](load(Path(file))))


if __name__ == "__main__":
    main(sys.argv[1:])
