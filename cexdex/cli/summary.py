"""What a demo did: counted in ClickHouse, measured on its processes, held against the simulator's truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cexdex.cli.screen import Screen
from cexdex.cli.usage import Usage
from cexdex.config import Config
from cexdex.records.record import declarations
from cexdex.runtime.clickhouse import Warehouse

FOUND_WITHIN_US = 1_000_000
"""A planted spread may be found so long after its end."""


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
