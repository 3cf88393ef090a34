"""Draws docs/demo.svg: the screen of a real run of the demo, at a moment at which an alert fires.

python -m docs.picture [--port-offset 400]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from cexdex.cli.screen import Screen
from cexdex.cli.usage import Usage
from cexdex.config import load
from cexdex.runtime.datafolder import read_running

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/demo.svg"
COLUMNS = 124
STARTED_WITHIN_S = 120
SETTLED_AFTER_S = 25
FIRES_WITHIN_S = 60
# The monospaced font of whoever looks at it: rich's own format fetches one.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.picture", description=__doc__)
    parser.add_argument("--port-offset", default="400", help="moves every port of the demo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        command = [
            sys.executable,
            "-m",
            "cexdex",
            "--port-offset",
            options.port_offset,
            "--data",
            data,
            "demo",
        ]
        cache = os.environ.get("CEXDEX_CACHE", str(ROOT / ".cexdex/jars"))
        demo = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "CEXDEX_CACHE": cache}, stdout=subprocess.DEVNULL
        )
        try:
            PICTURE.write_text(asyncio.run(_picture(Path(data) / "demo")), encoding="utf-8")
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    print(f"wrote {PICTURE.relative_to(ROOT)}")


async def _picture(folder: Path) -> str:
    await _until(lambda: "ingest" in _ports(folder), STARTED_WITHIN_S)
    screen = Screen(load(folder / "config.json"))
    watching = asyncio.create_task(
        screen.show(Console(file=StringIO()), seconds=None, label="simulated", usage=Usage(), ports={})
    )
    await asyncio.sleep(SETTLED_AFTER_S)
    screen.latencies_us.clear()  # of its start, when much had to be caught up with
    await _until(
        lambda: bool(screen.per_second() and screen.firing and len(screen.latencies_us) > 100), FIRES_WITHIN_S
    )
    paper = Console(record=True, file=StringIO(), width=COLUMNS, force_terminal=True)
    paper.print(screen.picture("simulated"))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return paper.export_svg(title="make demo", code_format=FORMAT, unique_id="cexdex")


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - it is another process that is looked at
            await asyncio.sleep(0.1)


def _ports(folder: Path) -> dict[str, int]:
    running = read_running(folder)
    return {} if running is None else running.ports


if __name__ == "__main__":
    main()
