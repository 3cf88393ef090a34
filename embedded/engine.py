"""The ClickHouse engine inside this process: chDB, its handles, its sessions and its errors. Everything here blocks.

A handle is cheap (1 ms) and has its own USE, SET and temporary tables; two queries on one handle wait for each other. So
each request gets a handle of its own, and each session_id keeps one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SESSIONS = 256
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
_DOUBLED = re.compile(
    r"^(?:[\w ]+ failed: )?(?:Code: \d+\. DB::Exception: )*?(?=Code: \d+\. DB::Exception: (?!Code: ))"
)
_CODE = re.compile(r"Code: (\d+)")


class QueryFailed(Exception):  # noqa: N818
    """ClickHouse's error: its number, and its text in ClickHouse's own form."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(slots=True)
class Counts:
    """What X-ClickHouse-Summary says."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0


class Engine:
    """Owns a folder of ClickHouse data. One per process and one process per folder."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        # Imported here: it costs half a second and 555 MB of address space, and only this process needs it.
        import chdb

        folder.mkdir(parents=True, exist_ok=True)
        # Bodies of a process that was killed would lie there for ever.
        self._bodies = folder.with_name("bodies")
        shutil.rmtree(self._bodies, ignore_errors=True)
        self._bodies.mkdir()
        options = "&".join(f"{name}={value}" for name, value in settings.items())
        self._connect = chdb.connect
        self._address = f"{folder}?{options}"
        # Held open as long as the engine shall live.
        self._root = Handle(self._connect(self._address))
        self.version, self.timezone = self._root.values("SELECT version(), timezone()")[0]
        self._sessions: dict[str, _Session] = {}
        self._sessions_lock = threading.Lock()

    def open(self) -> Handle:
        """A fresh handle, to be closed."""
        return Handle(self._connect(self._address))

    @contextmanager
    def session(self, name: str, timeout: float, *, must_exist: bool) -> Iterator[Handle]:
        """The handle of a session, alone for this query. Raises QueryFailed when it is busy, or missing and must not be."""
        session = self._enter_session(name, timeout, must_exist)
        try:
            yield session.handle
        finally:
            session.until = time.monotonic() + timeout
            session.busy = False

    @contextmanager
    def file_of(self, data: memoryview) -> Iterator[str]:
        """The path of a file with this content, for as long as the context lasts: in memory where the system can."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("body")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                yield f"/proc/self/fd/{descriptor}"
        else:
            with tempfile.NamedTemporaryFile(dir=self._bodies, prefix="body-") as named:
                named.write(data)
                named.flush()
                yield named.name

    def kill(self, tag: str) -> None:
        """Stops the query whose text begins with the comment that `tagged` writes."""
        handle = self.open()
        try:
            handle.query(f"KILL QUERY WHERE query LIKE '/*query {tag}*/%' ASYNC".encode())
        finally:
            handle.close()

    def drop_idle_sessions(self) -> None:
        """Closes sessions beyond their timeout; called now and then."""
        now = time.monotonic()
        with self._sessions_lock:
            idle = [
                name for name, session in self._sessions.items() if not session.busy and session.until < now
            ]
            dropped = [self._sessions.pop(name) for name in idle]
        for session in dropped:
            session.handle.close()

    def close(self) -> None:
        """Closes all handles, and with the last the engine."""
        for session in self._sessions.values():
            session.handle.close()
        self._root.close()

    def _enter_session(self, name: str, timeout: float, must_exist: bool) -> _Session:
        self.drop_idle_sessions()
        with self._sessions_lock:
            session = self._sessions.get(name)
            if session is None:
                if must_exist:
                    raise failure(372, f"Session {name} not found. (SESSION_NOT_FOUND)")
                if len(self._sessions) >= MAX_SESSIONS:
                    raise failure(
                        202, f"{MAX_SESSIONS} sessions are open already. (TOO_MANY_SIMULTANEOUS_QUERIES)"
                    )
                session = self._sessions[name] = _Session(self.open())
            if session.busy:
                raise failure(373, f"Session {name} is locked by a concurrent client. (SESSION_IS_LOCKED)")
            session.busy = True
            session.until = time.monotonic() + timeout
            return session


@dataclass(slots=True)
class _Session:
    handle: Handle
    busy: bool = False
    until: float = 0.0


class Handle:
    """One chDB connection. Not for two threads at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def query(
        self, sql: bytes, output_format: str = "TabSeparated", parameters: Mapping[str, str] | None = None
    ) -> Any:
        """Runs a statement to its end; chDB's result. Raises QueryFailed."""
        with _failures():
            return self._connection.query(sql, output_format, params=dict(parameters or {}))

    def stream(self, sql: bytes, output_format: str, parameters: Mapping[str, str]) -> Stream:
        """Begins a SELECT whose blocks are fetched one by one. Raises QueryFailed."""
        with _failures():
            return Stream(self._connection.send_query(sql, output_format, params=dict(parameters)))

    def values(self, sql: str) -> list[list[str]]:
        """The rows of a small query, fields as text; for our own questions, whose values hold no tabs."""
        text = self.query(sql.encode()).bytes().decode()
        return [line.split("\t") for line in text.splitlines()]

    def use(self, database: str) -> None:
        self.query(b"USE " + _quoted(database, "`").encode())

    def set(self, settings: Mapping[str, str]) -> None:
        """Settings for this handle from now on. Raises QueryFailed for unknown ones."""
        for name, value in settings.items():
            self.query(f"SET {_setting_name(name)} = {_quoted(value, chr(39))}".encode())

    @contextmanager
    def holding(self, database: str, settings: Mapping[str, str]) -> Iterator[None]:
        """Database and settings for one query of a session: what the session itself has set comes back afterwards."""
        names = ", ".join(_quoted(_setting_name(name), "'") for name in settings)
        before = (
            self.values(f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})")
            if names
            else []
        )
        was_in = self.values("SELECT currentDatabase()")[0][0] if database else ""
        try:
            self.set(settings)
            if database:
                self.use(database)
            yield
        finally:
            for name, value, changed in before:
                self.query(
                    f"SET {name} = {_quoted(value, chr(39)) if changed == '1' else 'DEFAULT'}".encode()
                )
            if was_in:
                self.use(was_in)

    def close(self) -> None:
        self._connection.close()


class Stream:
    """A running SELECT."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def fetch(self, counts: Counts, size: int) -> tuple[bytes, bool]:
        """About `size` bytes more, and whether there may be more after them. Raises QueryFailed."""
        out = bytearray()
        while len(out) < size:
            with _failures():
                block = self._stream.fetch()
            if block is None:
                return bytes(out), False
            add_result(counts, block)
            out += block.bytes()
        return bytes(out), True

    def cancel(self) -> None:
        with _failures():
            self._stream.cancel()


def tagged(sql: bytes, tag: str) -> bytes:
    """chDB gives no say in the query's id; a comment at its start is what `kill` finds it by."""
    return b"/*query " + tag.encode() + b"*/ " + sql


def add_result(counts: Counts, result: Any) -> None:
    """Adds what a chDB result (or block of one) says of itself."""
    counts.result_rows += result.rows_read()
    counts.result_bytes += result.bytes_read()
    counts.read_rows += result.storage_rows_read()
    counts.read_bytes += result.storage_bytes_read()
    counts.written_rows += result.rows_written()
    counts.written_bytes += result.bytes_written()
    counts.elapsed_ns += int(result.elapsed() * 1e9)


def failure(code: int, text: str) -> QueryFailed:
    """An error of ours in ClickHouse's form; `text` ends with the name of the code in brackets."""
    return QueryFailed(code, f"Code: {code}. DB::Exception: {text}")


@contextmanager
def _failures() -> Iterator[None]:
    # chDB raises ChdbError, or a bare RuntimeError; with texts such as "Code: 60. DB::Exception: Code: 60. DB::…".
    try:
        yield
    except QueryFailed:
        raise
    except Exception as error:
        text = _DOUBLED.sub("", str(error))
        code = _CODE.match(text)
        raise QueryFailed(int(code[1]) if code else 1002, text) from error


def _setting_name(name: str) -> str:
    if not _SETTING.fullmatch(name):
        raise failure(115, f"Unknown setting {name[:64]!r}. (UNKNOWN_SETTING)")
    return name


def _quoted(text: str, quote: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{escaped}{quote}"
