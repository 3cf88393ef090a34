"""The only clock of the pipeline: wall time in microseconds that never goes back."""

from __future__ import annotations

import time

_last = 0


def now_us() -> int:
    """Microseconds since the epoch, UTC; never less than what this process was told before.

    A step of the system's clock to the past holds the time still until it has passed again.
    """
    global _last
    now = time.time_ns() // 1000
    if now < _last:
        return _last
    _last = now
    return now
