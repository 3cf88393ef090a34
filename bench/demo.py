"""`cexdex demo` at its own rate: what its summary says of processors and memory, all processes together."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from embedded.jars import default_cache

PORT_OFFSET = "700"


def measure(*, seconds: int = 30, rate: int = 300) -> None:
    print(f"\ndemo: {seconds} s at {rate} frames/s; must be ≤ 1.4 cores and ≤ 2 GB")
    with tempfile.TemporaryDirectory(prefix="cexdex-bench-") as folder:
        command = [
            *(sys.executable, "-m", "cexdex", "--data", folder, "--port-offset", PORT_OFFSET),
            *("demo", "--seconds", str(seconds), "--rate", str(rate)),
        ]
        ran = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds + 120,
            env={**os.environ, "CEXDEX_CACHE": str(default_cache().absolute()), "COLUMNS": "120"},
        )
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("[simulated]")]
    print("\n".join(f"  {line}" for line in lines if line.strip()))
    if ran.returncode:
        print(f"  the demo ended with {ran.returncode}")


if __name__ == "__main__":
    measure()
