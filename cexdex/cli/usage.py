"""CPU and memory of the processes that run together."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import psutil


@dataclass
class Usage:
    """CPU and memory of the processes that run together."""

    processes: dict[str, psutil.Process] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    together_bytes: int = 0
    _began: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
