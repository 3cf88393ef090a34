"""Performs what feeds ask for: sockets, requests, time; what they publish goes to Kafka."""

from __future__ import annotations

import asyncio

from cexdex.config import Config
from cexdex.runtime.metrics import Monitor
from ingest.feed import venues
from ingest.runner.link import Outlet
from ingest.runner.recovery import last_trades
from ingest.runner.venue import Tap, VenueRunner

GAPS_EVERY_S = 0.1


async def run(
    config: Config, *, publisher: Outlet, monitor: Monitor, recover: bool = True, tap: Tap | None = None
) -> None:
    """Follows every enabled venue until cancelled.

    recover: look up the last trades in the market topic first, so that what was missed meanwhile is a gap with its
    count. Raises ValueError for a venue in the configuration that has no file.
    """
    found = venues()
    if unknown := set(config.venues) - set(found):
        raise ValueError(f"no such venue: {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    recalled = await last_trades(config) if recover else {}
    async with asyncio.TaskGroup() as tasks:
        for name, settings in config.venues.items():
            if settings.enabled:
                runner = VenueRunner(found[name], config, publisher, monitor, recalled, tap)
                tasks.create_task(runner.run(), name=f"venue {name}")
        tasks.create_task(_gaps(publisher), name="gaps of a full queue")


async def _gaps(publisher: Outlet) -> None:
    """What a full queue dropped becomes one gap an instrument, with its count."""
    while True:
        await asyncio.sleep(GAPS_EVERY_S)
        for gap in publisher.take_gaps():
            publisher.publish(gap)
