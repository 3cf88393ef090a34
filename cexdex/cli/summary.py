"""What a demo did: counted in ClickHouse, measured on its processes, held against the simulator's truth."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cexdex.config import Config
from cexdex.records.record import declarations
from cexdex.runtime.clickhouse import Warehouse

if TYPE_CHECKING:
    from cexdex.cli.screen import Screen

FOUND_WITHIN_US = 1_000_000
"""A planted spread may be found so long after its end."""


@dataclass
class Usage:
    """CPU and memory of the processes that run together."""

    processes: dict[str, psutil.Process] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    together_bytes: int = 0
    _began: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import os

        self.follow("screen", os.getpid())

    def follow(self, name: str, pid: int) -> None:
        self.processes[name] = psutil.Process(pid)

    def begin(self) -> None:
        """Counts CPU from now on: what starting cost is not the steady rate."""
        for name, process in self.processes.items():
            cpu = _cpu_s(process)
            if cpu is not None:
                self._began[name] = (time.monotonic(), cpu)

    def sample(self) -> None:
        """Takes a look at every process."""
        if self._began.keys() != self.processes.keys():
            self.begin()
            return
        now = time.monotonic()
        together = 0
        for name, process in self.processes.items():
            cpu = _cpu_s(process)
            if cpu is None:
                continue
            began_at, began_cpu = self._began[name]
            self.cores[name] = (cpu - began_cpu) / max(now - began_at, 1e-9)
            size = process.memory_info().rss
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), size)
            together += size
        self.together_bytes = max(self.together_bytes, together)


def _cpu_s(process: psutil.Process) -> float | None:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    return float(times.user + times.system)


@dataclass
class Summary:
    rows: list[tuple[str, int]]
    validity: list[tuple[str, int]]
    fired: list[tuple[str, int]]
    planted: int
    found: int
    latency: str
    usage: Usage

    @classmethod
    async def read(cls, config: Config, usage: Usage, screen: Screen, truth: Path) -> Summary:
        warehouse = await Warehouse.open(config.clickhouse)
        try:
            rows = []
            for declaration in declarations().values():
                [(count,)] = await warehouse.rows(f"SELECT count() FROM `{declaration.table}` FINAL")
                rows.append((declaration.table, int(count)))
            validity = await warehouse.rows(
                "SELECT if(valid, 'valid', assumeNotNull(reason)), count() FROM spreads FINAL GROUP BY 1 ORDER BY 2 DESC"
            )
            fired = await warehouse.rows(
                "SELECT rule, count() FROM alerts FINAL WHERE state = 'firing' AND deliver GROUP BY rule ORDER BY rule"
            )
            planted = spreads_planted(truth)
            found = 0
            for spread in planted:
                [(hits,)] = await warehouse.rows(
                    "SELECT count() FROM spreads FINAL WHERE buy = {buy:String} AND sell = {sell:String} AND valid"
                    " AND gross_bps >= {bps:Float64} AND received_at BETWEEN {start:Int64} AND {end:Int64}",
                    {
                        "buy": spread["buy_instrument"],
                        "sell": spread["sell_instrument"],
                        "bps": spread["bps"] / 2,
                        "start": spread["started_at"],
                        "end": spread["ended_at"] + FOUND_WITHIN_US,
                    },
                )
                found += bool(hits)
        finally:
            await warehouse.close()
        return cls(
            rows=rows,
            validity=[(str(reason), int(count)) for reason, count in validity],
            fired=[(str(rule), int(count)) for rule, count in fired],
            planted=len(planted),
            found=found,
            latency=screen.lag(last_s=float("inf")),
            usage=usage,
        )

    def text(self) -> Group:
        usage = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        usage.add_column("process")
        usage.add_column("cores", justify="right")
        usage.add_column("peak MB", justify="right")
        for name, cores in sorted(self.usage.cores.items()):
            usage.add_row(name, f"{cores:.2f}", f"{self.usage.peak_bytes[name] / 1e6:.0f}")
        total = sum(self.usage.cores.values())
        usage.add_row("together", f"{total:.2f}", f"{self.usage.together_bytes / 1e6:.0f}")
        rows = "  ".join(f"{table} {count:,}" for table, count in self.rows)
        validity = "  ".join(f"{reason} {count:,}" for reason, count in self.validity) or "none"
        fired = "  ".join(f"{rule} {count}" for rule, count in self.fired) or "none"
        return Group(
            Text("\nWhat was simulated", style="bold"),
            Text(f"rows: {rows}"),
            Text(f"spreads: {validity}"),
            Text(f"alerts fired: {fired}"),
            Text(f"planted spreads found: {self.found} of {self.planted}"),
            Text(f"{self.latency} (from the sixth second on)"),
            usage,
        )


def spreads_planted(truth: Path) -> list[dict[str, Any]]:
    """The planted spreads that ended, from the simulator's truth."""
    lines = truth.read_text().splitlines() if truth.exists() else []
    return [entry for line in lines if (entry := json.loads(line))["kind"] == "spread"]
