"""Requests to a venue's REST side: bounded in time and size, patient where the venue says so."""

from __future__ import annotations

import asyncio

import aiohttp

TOTAL_S = 20.0
MAX_BYTES = 32 << 20
CHUNK_BYTES = 1 << 16


class RequestFailedError(Exception):
    """No answer that can be used; `retry_after_s` is how long the venue asks to be left alone."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Http:
    """One session for a venue, with at most two requests under way."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(2)

    async def get(self, url: str) -> bytes:
        """The body of a GET. Raises RequestFailedError in one sentence."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TOTAL_S), headers={"User-Agent": "cexdex"}
            )
        async with self._slots:
            try:
                async with self._session.get(url) as answer:
                    if answer.status != 200:
                        raise RequestFailedError(
                            f"{answer.url.host} answered {answer.status}", _retry_after(answer)
                        )
                    body = bytearray()
                    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                        body += chunk
                        if len(body) > MAX_BYTES:
                            raise RequestFailedError(
                                f"{answer.url.host} answered more than {MAX_BYTES >> 20} MiB"
                            )
                    return bytes(body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise RequestFailedError(f"no answer: {error or type(error).__name__}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    """429 and 418 say when to come back, in seconds; without it, a minute."""
    if answer.status not in (418, 429):
        return 0.0
    try:
        return float(answer.headers.get("Retry-After", "60"))
    except ValueError:
        return 60.0
