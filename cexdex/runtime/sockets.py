"""A venue's WebSocket behind one seam, so that another library can take this one's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

OPEN_WITHIN_S = 10.0
CLOSE_WITHIN_S = 3.0
QUEUED_FRAMES = 4096


class SocketClosedError(Exception):
    """The connection could not be made or has ended; the message says why."""


class Socket:
    """An open connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes:
        """The next frame. Raises SocketClosedError."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise SocketClosedError(_why(error)) from None

    async def send(self, text: bytes) -> None:
        """Sends a text frame. Raises SocketClosedError."""
        try:
            await self._connection.send(text, text=True)
        except ConnectionClosed as error:
            raise SocketClosedError(_why(error)) from None


@asynccontextmanager
async def opened(url: str, *, max_bytes: int) -> AsyncIterator[Socket]:
    """A connection to `url`. A frame larger than `max_bytes` ends it with a reason that says so.

    Compression is refused (it costs more than it saves, and a frame could be a bomb); a peer that does not answer
    pings for 20 s is taken for gone; closing never waits longer than 3 s.
    """
    try:
        connection = await connect(
            url,
            compression=None,
            max_size=max_bytes,
            max_queue=QUEUED_FRAMES,
            open_timeout=OPEN_WITHIN_S,
            close_timeout=CLOSE_WITHIN_S,
            ping_interval=20,
            ping_timeout=20,
        )
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as error:
        raise SocketClosedError(f"cannot connect: {error or type(error).__name__}") from None
    try:
        yield Socket(connection)
    finally:
        with suppress(Exception, asyncio.CancelledError):
            # close() may block on a full queue (websockets #1555)
            await asyncio.wait_for(connection.close(), CLOSE_WITHIN_S + 1)


def _why(error: ConnectionClosed) -> str:
    if error.sent is not None and error.sent.code == 1009:
        return "a frame was larger than max_frame_mb allows"
    close = error.rcvd or error.sent
    return f"closed with {close.code} {close.reason[:100]!r}" if close else "the connection broke"
