"""ClickHouse as a child process of ours: `python -m embedded.clickhouse` owns the data folder and serves it over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from cexdex.runtime.children import CannotStart, Child, end_with_parent, spawn
from embedded.ports import LOOPBACK, require_free_port

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_CLOSE_SECONDS = 5.0

# What every query gets unless it says otherwise: FINAL, for what arrived twice collapses only then.
_SETTINGS = {"final": "1"}


class ClickHouse:
    """The embedded ClickHouse over the folder `data`."""

    def __init__(self, data: Path, *, password_file: Path, port: int, log: Path) -> None:
        self._data = data.absolute()
        self.password_file = password_file.absolute()
        self._port = port
        self._log = log
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def password(self) -> str:
        """Made at the first start; an error before it."""
        return self.password_file.read_text().strip()

    @property
    def child(self) -> Child:
        """The running child; an error before `start`."""
        if self._child is None:
            raise RuntimeError("ClickHouse is not started")
        return self._child

    async def start(self) -> Child:
        """Starts the child and returns once it answers. Raises PortTaken, or ChildEnded with its last words."""
        require_free_port(self._port, "ClickHouse")
        _make_password(self.password_file)
        command = [
            sys.executable,
            "-P",
            "-m",
            "embedded.clickhouse",
            str(self._data),
            str(self._port),
            str(self.password_file),
        ]
        self._child = await spawn("clickhouse", command, log=self._log)
        try:
            await self._await_answer(self._child)
        except BaseException:
            await asyncio.shield(self._child.stop(0.0))
            raise
        return self._child

    async def stop(self) -> None:
        """Lets running queries end and the engine close; kills it after 10 s, which loses nothing acknowledged."""
        if self._child is not None:
            await self._child.stop(_STOP_SECONDS)

    async def _await_answer(self, child: Child) -> None:
        ended = asyncio.ensure_future(child.wait())
        try:
            async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
                while not await _pings(session, self.url):
                    await asyncio.wait([ended], timeout=0.05)
                    if ended.done():
                        raise child.ended_error()
        except TimeoutError as error:
            said = " | ".join(child.last_error_lines()) or "it said nothing"
            raise CannotStart(
                f"ClickHouse did not answer on {self.url} within {_START_SECONDS:.0f} s: {said} (its log is {self._log})."
            ) from error
        finally:
            ended.cancel()


def main() -> None:
    """The child: opens the folder, serves it, and ends on SIGTERM or with its parent."""
    end_with_parent(grace=_STOP_SECONDS)
    parser = argparse.ArgumentParser(prog="python -m embedded.clickhouse", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("password_file", type=Path)
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments.data, arguments.port, arguments.password_file.read_text().strip()))
    # Threads of the engine may outlive its closing, and the interpreter would wait for them.
    sys.stdout.flush()
    os._exit(0)


async def _serve(data: Path, port: int, password: str) -> None:
    # Imported here: the parent, which imports this module too, does without the engine.
    from embedded.engine import Engine
    from embedded.front import Front

    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    engine = Engine(data, _SETTINGS)
    front = Front(engine, password)
    runner = front.runner()
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    while not ended.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 30.0)
        await asyncio.to_thread(engine.drop_idle_sessions)
    await front.stop()
    await runner.cleanup()
    closing = threading.Thread(target=engine.close, daemon=True)
    closing.start()
    await asyncio.to_thread(closing.join, _CLOSE_SECONDS)


async def _pings(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ping", timeout=aiohttp.ClientTimeout(total=2.0)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _make_password(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if file.read_text().strip():
            return
        file.unlink()  # cut short at its first writing
        return _make_password(file)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(secrets.token_urlsafe(24) + "\n")


if __name__ == "__main__":
    main()
