"""`python -m simulator`: the venues in a process of their own."""

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import signal
from pathlib import Path

import orjson
import uvloop

from simulator.faults import Fault, UnknownFaultError, fault_of
from simulator.server import running

log = logging.getLogger("simulator")


def main() -> None:
    _end_with_parent()
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        uvloop.run(_run(arguments))
    except OSError as error:
        raise SystemExit(f"the simulated venues cannot start: {error}") from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m simulator", description="Simulated Binance, Coinbase and Kraken."
    )
    parser.add_argument("--seed", type=int, default=7, help="the same seed and rate give the same market")
    parser.add_argument("--rate", type=float, default=300.0, help="frames a second over all venues' feeds")
    parser.add_argument("--port", type=int, default=8200, help="Binance; Coinbase +1, Kraken +2, control +10")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another Host header to serve"
    )
    parser.add_argument(
        "--truth", type=Path, help="file for what was planted and broken, one JSON object a line"
    )
    parser.add_argument(
        "--faults",
        type=_script,
        default=[],
        metavar="FILE",
        help='lines like {"at":5,"venue":"kraken","kind":"gap","instrument":"kraken:BTC-USD"}',
    )
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    parser.add_argument("--no-spreads", action="store_true", help="plant no spreads between venues")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running(
        seed=arguments.seed,
        rate=arguments.rate,
        base_port=arguments.port,
        host=arguments.host,
        truth=arguments.truth,
        faults=arguments.faults,
        allowed_hosts=arguments.allow_host,
        deflate=arguments.deflate,
        spreads=not arguments.no_spreads,
    ) as venues:
        for name, address in venues.addresses.items():
            log.info("simulated %s: %s %s", name, address.ws_url, address.rest_url)
        log.info("control: %s", venues.control_url)
        stopping = asyncio.create_task(stopped.wait())
        assert venues.clock is not None
        await asyncio.wait({stopping, venues.clock}, return_when=asyncio.FIRST_COMPLETED)


def _script(path: str) -> list[Fault]:
    try:
        lines = Path(path).read_bytes().splitlines()
        return [fault_of(orjson.loads(line)) for line in lines if line.strip()]
    except (OSError, orjson.JSONDecodeError, UnknownFaultError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def _end_with_parent() -> None:
    """A child whose parent was killed must not keep the ports."""
    if "CEXDEX_PARENT_FD" not in os.environ:
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("cexdex.runtime.children").end_with_parent()


if __name__ == "__main__":
    main()
