"""`make bench`: every benchmark, or those named: `python -m bench feeds spreads pipeline sink demo`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import uvloop

from bench import demo, feeds, pipeline, sink, spreads

BENCHES: dict[str, Callable[[], None]] = {
    "feeds": feeds.measure,
    "spreads": spreads.measure,
    "pipeline": lambda: uvloop.run(pipeline.measure()),
    "sink": lambda: uvloop.run(sink.measure()),
    "demo": demo.measure,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHES)}")
        return 2
    print("each figure: the median, and in brackets the least and the greatest of its repetitions")
    for name in names or BENCHES:
        started, load = time.monotonic(), os.getloadavg()[0]
        BENCHES[name]()
        cores = os.cpu_count()
        print(
            f"  ({time.monotonic() - started:.0f} s; load before it {load:.1f} on {cores} cores)", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
