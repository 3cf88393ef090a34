"""A client that knows the password, for the tests of the front."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from embedded.machine import Machine


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]
    body: bytes


class Door:
    """Sends requests with the password, into a database of its own."""

    def __init__(self, machine: Machine, session: aiohttp.ClientSession, database: str) -> None:
        self.machine = machine
        self.session = session
        self.database = database

    async def ask(
        self,
        sql: str | bytes = b"",
        *,
        method: str = "POST",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        known: bool = True,
        **parameters: str,
    ) -> Answer:
        credentials = (
            {"X-ClickHouse-User": self.machine.user, "X-ClickHouse-Key": self.machine.password}
            if known
            else {}
        )
        async with self.session.request(
            method,
            self.machine.clickhouse_url + path,
            params={"database": self.database, **parameters},
            data=sql or None,
            headers={**credentials, **(headers or {})},
            skip_auto_headers=["Accept-Encoding"],
        ) as answer:
            body = await answer.read()
            return Answer(answer.status, body.decode("utf-8", "replace"), answer.headers, body)

    async def value(self, sql: str, **parameters: str) -> str:
        answer = await self.ask(sql, **parameters)
        assert answer.status == 200, answer.text
        return answer.text.strip()


def codes(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers.get("X-ClickHouse-Exception-Code", "")


async def until(door: Door, sql: str, expected: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while (value := await door.value(sql)) != expected:
        assert time.monotonic() < deadline, f"{sql} gives {value}"
        await asyncio.sleep(0.05)
