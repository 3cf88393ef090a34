"""What was planted and what was broken, one JSON object a line, for tests to hold the product against."""

from pathlib import Path
from typing import TextIO

import orjson

from simulator.faults import Fault
from simulator.listings import LAG_US, LISTINGS
from simulator.market import Market
from simulator.plants import Plant


class Truth:
    def __init__(self, path: Path | None, market: Market) -> None:
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", buffering=1)
        self._write(
            {
                "kind": "header",
                "seed": market.seed,
                "rate": market.rate,
                "started_at": market.started_at,
                "lag_us": LAG_US,
                "instruments": [
                    {
                        "instrument": listing.instrument,
                        "market": listing.market,
                        "base": listing.base,
                        "quote": listing.quote,
                        "half_spread_bps": listing.half_spread_bps,
                        "taker_fee_bps": listing.taker_fee_bps,
                    }
                    for listing in LISTINGS
                ],
            }
        )

    def spread(self, plant: Plant, ended_at: int) -> None:
        self._write(plant.truth(ended_at))

    def fault(self, fault: Fault, at: int) -> None:
        self._write(
            {
                "kind": "fault",
                "fault": fault.kind,
                "venue": fault.venue,
                "instrument": fault.instrument,
                "at": at,
                "seconds": fault.lasts,
            }
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps(line).decode() + "\n")
