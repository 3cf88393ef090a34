"""Local venues that speak the real protocols on 127.0.0.1: for the demo, for fault tests and for load.

Nothing here imports `ingest`: a protocol that one side misreads must not agree with itself.
"""

from simulator.server import Venues, running

__all__ = ["Venues", "running"]
