"""What a desk wants to see: prices per venue, spreads with reasons, alerts, lags, rates. Read from Kafka alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cexdex.cli.usage import Usage
from cexdex.config import Config
from cexdex.records.alerts import Alert
from cexdex.records.quote import Quote
from cexdex.records.rates import Rate
from cexdex.records.record import decoder
from cexdex.records.spreads import Spread
from cexdex.records.venue_status import VenueStatus
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import (
    TopicPartition,
    consumer,
    end_offsets,
    partition_counts,
    stop_consumer,
    topic_name,
)

REFRESH_S = 0.5
PLAIN_LINE_S = 5.0
RATE_OVER_S = 5.0
SPREADS_SHOWN = 12
LAG_OVER_S = 10.0
STEADY_AFTER_S = 5.0
HEALTH_EVERY_S = 2.0
READ_EVERY_S = 0.1
POINT_US = 100_000
TOPICS = ("market", "spreads", "alerts", "rates", "venue_status")


class Screen:
    """The state of the markets, as far as Kafka tells it, and its picture."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.quotes: dict[str, Quote] = {}
        self.spreads: dict[str, Spread] = {}
        self.rates: dict[str, Rate] = {}
        self.alerts: deque[Alert] = deque(maxlen=6)
        self.firing: dict[str, Alert] = {}
        self.events: deque[VenueStatus] = deque(maxlen=4)
        self.notes: deque[str] = deque(maxlen=3)
        self.counts: Counter[str] = Counter()
        self.latencies_us: deque[tuple[float, int]] = deque(maxlen=200_000)
        self.troubles: dict[str, str] = {}
        self.first_frame: float | None = None
        self._recent: deque[tuple[float, Counter[str]]] = deque()
        self._seen_at = 0.0
        self._decoders = {
            b"quote": decoder(Quote),
            b"spreads": decoder(Spread),
            b"alerts": decoder(Alert),
            b"rates": decoder(Rate),
            b"venue_status": decoder(VenueStatus),
        }

    async def show(
        self, console: Console, *, seconds: float | None, label: str, usage: Usage, ports: Mapping[str, int]
    ) -> None:
        """Reads and draws until `seconds` after the first frame, or until cancelled."""
        reading = asyncio.create_task(self._read())
        asking = asyncio.create_task(self._ask(ports))
        try:
            if console.is_terminal:
                await self._draw(console, seconds, label, usage, reading)
            else:
                await self._tell(console, seconds, label, usage, reading)
        finally:
            reading.cancel()
            asking.cancel()
            await asyncio.gather(reading, asking, return_exceptions=True)

    async def _ask(self, ports: Mapping[str, int]) -> None:
        """What is wrong with the stages, from their own health."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HEALTH_EVERY_S)) as session:
            while True:
                for stage, port in ports.items():
                    with suppress(aiohttp.ClientError, TimeoutError, OSError):
                        async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                            well = answer.status == 200
                            self.troubles[stage] = "" if well else (await answer.text()).strip()[:300]
                await asyncio.sleep(HEALTH_EVERY_S)

    async def settle(self) -> None:
        """Gives stream time the three seconds that it follows the wall clock by."""
        await asyncio.sleep(3.5)

    async def _draw(
        self, console: Console, seconds: float | None, label: str, usage: Usage, reading: asyncio.Task[None]
    ) -> None:
        with Live(console=console, auto_refresh=False, screen=False, transient=True) as live:
            while not self._over(seconds, reading):
                usage.sample()
                live.update(self.picture(label), refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _tell(
        self, console: Console, seconds: float | None, label: str, usage: Usage, reading: asyncio.Task[None]
    ) -> None:
        told = time.monotonic()
        while not self._over(seconds, reading):
            usage.sample()
            if time.monotonic() - told >= PLAIN_LINE_S:
                told = time.monotonic()
                console.print(self.line(label), markup=False)
            await asyncio.sleep(REFRESH_S)

    def _over(self, seconds: float | None, reading: asyncio.Task[None]) -> bool:
        if reading.done():
            reading.result()
        return (
            seconds is not None
            and self.first_frame is not None
            and time.monotonic() - self.first_frame >= seconds
        )

    async def _read(self) -> None:
        counts = await partition_counts(self._config)
        names = [topic_name(self._config.topics.prefix, topic) for topic in TOPICS]
        partitions = [TopicPartition(name, number) for name in names for number in range(counts[name])]
        reader = consumer(self._config.kafka.servers)
        await reader.start()
        try:
            reader.assign(partitions)
            for partition, end in (await end_offsets(reader, partitions)).items():
                reader.seek(partition, end)
            while True:
                found = await reader.getmany(timeout_ms=500, max_records=2_000)
                for records in found.values():
                    self.take(records)
                # ten turns a second are enough for the eye, and for the broker much cheaper than one for each record
                await asyncio.sleep(READ_EVERY_S)
        finally:
            await stop_consumer(reader)

    def take(self, records: Sequence[Any]) -> None:
        """Kafka's records."""
        for message in records:
            kind = dict(message.headers).get("type", b"")
            self.counts[kind.decode()] += 1
            if kind == b"quote" and self.first_frame is None:
                self.first_frame = time.monotonic()
            decode = self._decoders.get(kind)
            if decode is None:
                continue
            record = decode.decode(message.value)
            if isinstance(record, Quote):
                self.quotes[record.instrument] = record
            elif isinstance(record, Spread):
                self.spreads[record.edge] = record
                # Caused by a frame, not by a point of time; not while what start-up left waiting is worked off; and
                # by the broker's clock, which says when it was there to be read, not when this screen came to it.
                if record.received_at % POINT_US and self._steady():
                    self.latencies_us.append(
                        (time.monotonic(), message.timestamp * 1000 - record.received_at)
                    )
            elif isinstance(record, Rate):
                self.rates[record.asset] = record
            elif isinstance(record, Alert):
                self._alert(record)
            elif isinstance(record, VenueStatus):
                self.events.append(record)

    def note(self, sentence: str) -> None:
        """Something that happened to the instance itself."""
        self.notes.append(sentence)

    def _alert(self, alert: Alert) -> None:
        if alert.state == "pending":
            return
        if alert.alert_id not in self.firing or alert.state != "firing":  # else it is only a new peak
            self.alerts.append(alert)
        if alert.state == "firing":
            self.firing[alert.alert_id] = alert
        else:
            self.firing.pop(alert.alert_id, None)

    def per_second(self) -> dict[str, float]:
        """Records a second by type, over the last five."""
        now = time.monotonic()
        self._recent.append((now, self.counts.copy()))
        while len(self._recent) > 2 and now - self._recent[0][0] > RATE_OVER_S:
            self._recent.popleft()
        then, before = self._recent[0]
        span = max(now - then, 1e-9)
        return {kind: (count - before[kind]) / span for kind, count in self.counts.items() if now > then}

    def line(self, label: str) -> str:
        """The state in one line, where there is no terminal."""
        live = sum(quote.state == "live" for quote in self.quotes.values())
        valid = sum(spread.valid for spread in self.spreads.values())
        best = max((s for s in self.spreads.values() if s.valid), key=_net, default=None)
        text = f"[{label}] {live}/{len(self.quotes)} quotes live, {valid}/{len(self.spreads)} spreads valid"
        if best is not None:
            text += f", best {best.edge} {_net(best):+.1f} bps net"
        troubles = "".join(f"\n  {stage}: {trouble}" for stage, trouble in self.troubles.items() if trouble)
        return f"{text}, {len(self.firing)} alerts firing, {self.lag()}{troubles}"

    def lag(self, last_s: float = LAG_OVER_S) -> str:
        """From a frame's arrival to its spread in Kafka, over the last seconds."""
        since = time.monotonic() - last_s
        recent = sorted(latency for at, latency in self.latencies_us if at >= since)
        if not recent:
            return "no spread yet"
        p50, p99 = recent[len(recent) // 2], recent[len(recent) * 99 // 100]
        return f"frame to spread p50 {p50 / 1e3:.0f} ms p99 {p99 / 1e3:.0f} ms"

    def _steady(self) -> bool:
        return self.first_frame is not None and time.monotonic() - self.first_frame > STEADY_AFTER_S

    def picture(self, label: str) -> Group:
        now = now_us()
        parts: list[Any] = [Text(f"cexdex · {label} · {self.lag()}", style="bold")]
        parts.append(self._prices(now))
        parts.append(self._edges())
        if self.alerts:
            parts.append(self._alerts())
        rates = "  ".join(
            f"{rate.asset} {rate.rate:.5f} ({rate.state})" if rate.rate else f"{rate.asset} – ({rate.state})"
            for rate in sorted(self.rates.values(), key=lambda rate: rate.asset)
        )
        parts.append(Text(f"USD rates: {rates or 'none yet'}"))
        flow = "  ".join(
            f"{kind} {rate:.0f}/s" for kind, rate in sorted(self.per_second().items()) if rate >= 0.5
        )
        parts.append(Text(f"records: {flow}", style="dim"))
        for event in self.events:
            parts.append(
                Text(f"{event.venue} {event.instrument} {event.kind}: {event.reason[:90]}", style="dim")
            )
        parts += [
            Text(f"{stage}: {trouble}", style="red") for stage, trouble in self.troubles.items() if trouble
        ]
        parts += [Text(note, style="yellow") for note in self.notes]
        return Group(*parts)

    def _prices(self, now: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("instrument", "bid", "size", "ask", "size", "state", "age"):
            table.add_column(name, justify="left" if name in ("instrument", "state") else "right")
        for quote in sorted(self.quotes.values(), key=lambda quote: (quote.market, quote.instrument)):
            table.add_row(
                quote.instrument,
                _number(quote.bid),
                _number(quote.bid_size),
                _number(quote.ask),
                _number(quote.ask_size),
                Text(quote.reason or quote.state, style="green" if quote.state == "live" else "red"),
                f"{max(0, now - quote.verified_at) / 1e6:.1f} s",
            )
        return table

    def _edges(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("buy > sell")
        for name in ("gross", "net", "net converted"):
            table.add_column(name, justify="right")
        for notional in self._config.notionals_usd:
            table.add_column(f"at {notional:,.0f} USD", justify="right")
        table.add_column("valid")
        ordered = sorted(self.spreads.values(), key=lambda s: (s.valid, _net(s)), reverse=True)
        for spread in ordered[:SPREADS_SHOWN]:
            table.add_row(
                spread.edge,
                *(_bps(value) for value in (spread.gross_bps, spread.net_bps, spread.net_converted_bps)),
                *(
                    _bps(size.net_converted_bps) if size.reason is None else Text(size.reason, style="dim")
                    for size in spread.sizes
                ),
                Text("yes", style="green") if spread.valid else Text(str(spread.reason), style="red"),
            )
        return table

    def _alerts(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("alert", "edge", "state", "bps"):
            table.add_column(name)
        for alert in reversed(self.alerts):
            style = {"firing": "bold red", "nodata": "yellow"}.get(alert.state, "green")
            table.add_row(
                alert.rule, f"{alert.edge} {alert.size}", Text(alert.state, style=style), _bps(alert.value)
            )
        return table


def _net(spread: Spread) -> float:
    return spread.net_converted_bps if spread.net_converted_bps is not None else float("-inf")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.8g}"


def _bps(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"
