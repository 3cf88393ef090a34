"""ClickHouse's HTTP interface over the engine of this process: what clickhouse-connect, curl and @clickhouse/client need.

A door, not a server: it listens on 127.0.0.1 only, always asks for the password, and whoever has that can read every file
of this user (chDB has no users of its own, and `file()` is not stopped by readonly).

Not served: compress=1/decompress=1 (the native protocol's blocks), external data, /play.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import json
import secrets
import uuid
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from aiohttp import web

from cexdex.runtime.door import doorkeeper
from embedded.bodies import (
    BodyTooLarge,
    BodyUnreadable,
    chosen_encoding,
    compressor,
    decompressed,
)
from embedded.engine import Engine, QueryFailed, failure
from embedded.query import Asked, Query
from embedded.statement import read_statement

USER = "default"
BODY_BYTES = 256 << 20
"""Of a request, in clear."""
QUERIES_AT_ONCE = 16
SERVER = "cexdex"

T = TypeVar("T")

_WORTH_COMPRESSING = 1024
_PLAIN_HEADERS = {"X-ClickHouse-Server-Display-Name": SERVER, "X-Content-Type-Options": "nosniff"}
_OURS = frozenset(
    [
        "query",
        "user",
        "password",
        "database",
        "default_format",
        "session_id",
        "session_timeout",
        "session_check",
        "query_id",
        "enable_http_compression",
        "compress",
        "decompress",
        "client_protocol_version",
        "stacktrace",
        "quota_key",
        "wait_end_of_query",
        "buffer_size",
        "role",
        "http_zlib_compression_level",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
        "add_http_cors_header",
    ]
)
"""URL parameters that are not settings for the engine."""

_STATUS = {
    **dict.fromkeys((516, 192, 497), 403),
    **dict.fromkeys((60, 81, 46, 372), 404),
    **dict.fromkeys((6, 27, 36, 38, 41, 43, 47, 53, 62, 69, 70, 72, 73, 115, 117, 130, 386, 456, 457), 400),
    **dict.fromkeys((159, 160), 408),
    48: 501,
    164: 403,
    202: 503,
    373: 423,
}
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "CSVWithNamesAndTypes": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONStrings": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONEachRowWithProgress": "application/x-ndjson; charset=UTF-8",
    "XML": "application/xml; charset=UTF-8",
    "Vertical": "text/plain; charset=UTF-8",
    "Markdown": "text/markdown; charset=UTF-8",
}


class Front:
    """The aiohttp application over one engine."""

    def __init__(
        self,
        engine: Engine,
        password: str,
        *,
        hosts: frozenset[str] = frozenset(),
        origins: frozenset[str] = frozenset(),
        body_bytes: int = BODY_BYTES,
    ) -> None:
        self._engine = engine
        self._password = password.encode()
        # Before routing: a page of another origin shall not even learn which paths exist.
        self._door = doorkeeper(hosts=hosts, origins=origins)
        self._body_bytes = body_bytes
        self._queries = ThreadPoolExecutor(QUERIES_AT_ONCE, "query")
        # KILL must not wait behind the queries it is to kill.
        self._control = ThreadPoolExecutor(4, "control")
        self._running: dict[str, Query] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def runner(self) -> web.AppRunner:
        """Serves it; to be set up by the caller."""
        return web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=1.0,
            auto_decompress=False,  # ours is bounded, and knows lz4
            handler_cancellation=True,  # a client that goes away ends its query
        )

    async def stop(self) -> None:
        """Ends what still runs, within about two seconds."""
        for tag in list(self._running):
            await self._kill(tag)
        if self._ending:
            await asyncio.wait(list(self._ending), timeout=2.0)
        self._queries.shutdown(wait=False, cancel_futures=True)
        self._control.shutdown(wait=False, cancel_futures=True)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._door], client_max_size=self._body_bytes)
        app.router.add_get("/ping", _ok)
        app.router.add_get("/replicas_status", _ok)
        app.router.add_get("/", self._answer, allow_head=False)
        app.router.add_post("/", self._answer)
        return app

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        query_id = http.query.get("query_id") or str(uuid.uuid4())
        try:
            self._authenticate(http)
            asked = await self._read(http, query_id)
            return await self._run(http, asked)
        except QueryFailed as error:
            return self._error(error, query_id)
        except (BodyTooLarge, web.HTTPRequestEntityTooLarge):
            text = f"The body has more than {self._body_bytes >> 20} MiB in clear; send it in parts.\n"
            return web.Response(status=413, text=text)
        except BodyUnreadable as error:
            return web.Response(status=400, text=f"{str(error)[:1].upper()}{str(error)[1:]}.\n")

    def _authenticate(self, http: web.Request) -> None:
        user, password = _credentials(http)
        right = hmac.compare_digest(password.encode(), self._password)
        if user != USER or not right:
            raise failure(
                516,
                f"{user[:64]!r}: Authentication failed: password is incorrect, or there is no user with such name; "
                f"the user is {USER}, the password stands in clickhouse.password of the data folder. "
                "(AUTHENTICATION_FAILED)",
            )

    async def _read(self, http: web.Request, query_id: str) -> Asked:
        given = http.query
        for name in ("compress", "decompress"):
            if given.get(name, "0") not in ("0", ""):
                raise failure(
                    48,
                    f"{name}=1 is not served by the embedded ClickHouse; use enable_http_compression=1 with "
                    "Accept-Encoding, or Content-Encoding. (NOT_IMPLEMENTED)",
                )
        if http.content_type == "multipart/form-data":
            raise failure(48, "External data is not served by the embedded ClickHouse. (NOT_IMPLEMENTED)")
        body = await http.read()
        content_encoding = http.headers.get("Content-Encoding", "")
        if body and content_encoding:
            body = await self._in(self._queries, decompressed, body, content_encoding, self._body_bytes)
        head = given.get("query", "").encode()
        # The newline ends the query; whitespace of the client's own there would become part of binary data.
        sql = head.rstrip() + b"\n" + body if head and body else head or body
        if not sql.strip():
            raise failure(62, "Syntax error: Empty query. (SYNTAX_ERROR)")
        statement = read_statement(sql)
        refused = statement.refusal()
        if refused:
            raise failure(*refused)
        compressing = given.get("enable_http_compression", "0") in ("1", "true")
        return Asked(
            sql=sql,
            statement=statement,
            read_only=http.method == "GET",
            database=given.get("database", "") or http.headers.get("X-ClickHouse-Database", ""),
            default_format=given.get("default_format", "")
            or http.headers.get("X-ClickHouse-Format", "")
            or "TabSeparated",
            settings={
                name: value
                for name, value in given.items()
                if name not in _OURS and not name.startswith("param_")
            },
            parameters={name[6:]: value for name, value in given.items() if name.startswith("param_")},
            session_id=given.get("session_id", ""),
            session_timeout=_seconds(given.get("session_timeout", "60")),
            session_check=given.get("session_check", "0") == "1",
            query_id=query_id,
            encoding=chosen_encoding(http.headers.get("Accept-Encoding", "")) if compressing else "",
        )

    async def _run(self, http: web.Request, asked: Asked) -> web.StreamResponse:
        query = Query(self._engine, asked)
        self._running[asked.tag] = query
        try:
            body, more = await self._step(query, query.begin)
            if more:
                return await self._streamed(http, query, body)
            return await self._whole(query, body)
        finally:
            # Also when the client has gone and this task is cancelled: the thread is still in the engine then.
            ending = asyncio.create_task(self._end(query))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)

    async def _whole(self, query: Query, body: bytes) -> web.StreamResponse:
        encoding = query.asked.encoding if len(body) >= _WORTH_COMPRESSING else ""
        headers = self._headers(query, encoding)
        if encoding:
            packer = compressor(encoding)
            body = await self._step(query, lambda: packer.add(body) + packer.end())
        return web.Response(body=body, headers=headers)

    async def _streamed(self, http: web.Request, query: Query, chunk: bytes) -> web.StreamResponse:
        tag = secrets.token_hex(8)
        response = web.StreamResponse(
            headers={**self._headers(query, query.asked.encoding), "X-ClickHouse-Exception-Tag": tag}
        )
        packer = compressor(query.asked.encoding)
        await response.prepare(http)
        more, broken = True, False
        while more:
            if packed := await self._step(query, functools.partial(packer.add, chunk)):
                await response.write(packed)
            try:
                chunk, more = await self._step(query, query.fetch)
            except QueryFailed as error:
                chunk, more, broken = _told_midway(self._versioned(error), tag), False, True
        await response.write(packer.add(chunk) + packer.end())
        await self._end(
            query
        )  # before the client knows it has all: its next request may be for the same session
        if broken and http.transport is not None:
            http.transport.close()  # no last chunk: a client that does not know the tag sees that it is not whole
        else:
            await response.write_eof()
        return response

    def _headers(self, query: Query, encoding: str) -> dict[str, str]:
        asked = query.asked
        output_format = asked.output_format
        headers = {
            **_PLAIN_HEADERS,
            "Content-Type": _CONTENT_TYPES.get(output_format)
            or (
                "text/plain; charset=UTF-8"
                if output_format.startswith("Pretty")
                else "application/octet-stream"
            ),
            "X-ClickHouse-Query-Id": asked.query_id,
            "X-ClickHouse-Format": output_format,
            "X-ClickHouse-Timezone": asked.settings.get("session_timezone") or self._engine.timezone,
            # A result_rows of 0 makes Java's client believe that there is no result.
            "X-ClickHouse-Summary": json.dumps(
                {name: str(value) for name, value in asdict(query.counts).items()}
            ),
        }
        if encoding:
            headers["Content-Encoding"] = encoding
        return headers

    def _error(self, error: QueryFailed, query_id: str) -> web.Response:
        return web.Response(
            status=_STATUS.get(error.code, 500),
            text=self._versioned(error) + "\n",
            headers={
                **_PLAIN_HEADERS,
                "X-ClickHouse-Query-Id": query_id,
                "X-ClickHouse-Exception-Code": str(error.code),
            },
        )

    def _versioned(self, error: QueryFailed) -> str:
        return f"{error.text} (version {self._engine.version})"

    async def _step(self, query: Query, function: Callable[[], T]) -> T:
        """One blocking step of a query, on a thread; `_end` knows of it should we be cancelled meanwhile."""
        query.step = step = self._queries.submit(function)
        return await asyncio.wrap_future(step)

    async def _end(self, query: Query) -> None:
        step = query.step
        if step is not None and not step.done() and not step.cancel():
            done = asyncio.create_task(_finished(step))
            # Again and again, for the engine may not have begun the query yet. Rows that have been handed over whole
            # are stored, as by any ClickHouse: whoever sent them may have gone without reading the answer.
            while not done.done():
                if not query.asked.statement.carries_data:
                    await self._kill(query.asked.tag)
                await asyncio.wait([done], timeout=0.2)
        await self._in(self._control, query.close)
        self._running.pop(query.asked.tag, None)

    async def _kill(self, tag: str) -> None:
        with suppress(QueryFailed):
            await self._in(self._control, self._engine.kill, tag)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, functools.partial(function, *arguments))


async def _ok(http: web.Request) -> web.Response:
    return web.Response(text="Ok.\n", headers=_PLAIN_HEADERS)


async def _finished(step: Future[Any]) -> None:
    with suppress(Exception):
        await asyncio.wrap_future(step)


def _credentials(http: web.Request) -> tuple[str, str]:
    """User and password: from Basic authorization, ClickHouse's headers or the URL, in this order."""
    kind, _, encoded = http.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        with suppress(ValueError):
            user, _, password = b64decode(encoded, validate=True).decode().partition(":")
            return user or USER, password
        return USER, ""
    if "X-ClickHouse-User" in http.headers or "X-ClickHouse-Key" in http.headers:
        return http.headers.get("X-ClickHouse-User") or USER, http.headers.get("X-ClickHouse-Key", "")
    return http.query.get("user") or USER, http.query.get("password", "")


def _seconds(text: str) -> float:
    if not text.isdecimal() or not 0 < int(text) <= 3600:
        raise failure(
            374,
            f"Invalid session timeout: {text[:20]!r}; it takes 1 to 3600 seconds. (INVALID_SESSION_TIMEOUT)",
        )
    return float(text)


def _told_midway(text: str, tag: str) -> bytes:
    """An error after part of the answer has gone, in the form that ClickHouse's clients look for."""
    message = text.encode() + b"\n"
    mark = tag.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (mark, message, len(message), mark)
