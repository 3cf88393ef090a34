"""One query: what was asked over HTTP, and its course through the engine."""

from __future__ import annotations

import uuid
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from embedded.bodies import CHUNK_BYTES
from embedded.engine import Counts, Engine, Handle, QueryFailed, Stream, add_result, tagged
from embedded.statement import STREAMABLE, Statement


@dataclass(slots=True)
class Asked:
    """One request for a query, as far as it has been read."""

    sql: bytes
    statement: Statement
    read_only: bool
    database: str
    default_format: str
    settings: dict[str, str]
    parameters: dict[str, str]
    session_id: str
    session_timeout: float
    session_check: bool
    query_id: str
    encoding: str
    tag: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def output_format(self) -> str:
        return self.statement.output_format or self.default_format


class Query:
    """One query in the engine. All of it blocks, but one method at a time."""

    def __init__(self, engine: Engine, asked: Asked) -> None:
        self.asked = asked
        self.counts = Counts()
        self.step: Future[Any] | None = None
        self._engine = engine
        self._held = ExitStack()
        self._stream: Stream | None = None

    def begin(self) -> tuple[bytes, bool]:
        """The first bytes of the answer, and whether more may follow: when none do, the answer can say how it went."""
        asked = self.asked
        handle = self._prepared_handle()
        if asked.statement.format_end:
            return self._insert(handle), False
        sql = tagged(asked.sql, asked.tag)
        if (
            asked.statement.streamable
            and asked.output_format in STREAMABLE
            and "extremes" not in asked.settings
        ):
            try:
                self._stream = handle.stream(sql, asked.default_format, asked.parameters)
            except QueryFailed as error:
                if "Streaming query is not supported" not in error.text:
                    raise
            else:
                return self.fetch()
        result = handle.query(sql, asked.default_format, asked.parameters)
        add_result(self.counts, result)
        if asked.statement.verb == "INSERT":
            self.counts.result_rows = self.counts.written_rows
        return result.bytes(), False

    def fetch(self) -> tuple[bytes, bool]:
        """The next bytes, and whether more may follow."""
        if self._stream is None:
            return b"", False
        chunk, more = self._stream.fetch(self.counts, CHUNK_BYTES)
        if not more:
            self._stream = None
        return chunk, more

    def close(self) -> None:
        """Gives the handle back."""
        stream, self._stream = self._stream, None
        with suppress(QueryFailed):
            if stream is not None:
                stream.cancel()
        with suppress(QueryFailed):
            self._held.close()

    def _insert(self, handle: Handle) -> bytes:
        # Data goes in as a file. As part of the text it would end at its first empty line, for chDB takes that for the
        # end of the statement: rows silently lost (measured: RowBinary stops at two bytes of 10 in a row).
        asked, statement = self.asked, self.asked.statement
        with self._engine.file_of(memoryview(asked.sql)[statement.data_at :]) as path:
            sql = b"%b FROM INFILE '%b' COMPRESSION 'none' %b" % (
                asked.sql[: statement.infile_at],
                path.encode(),
                asked.sql[statement.infile_at : statement.format_end],
            )
            result = handle.query(tagged(sql, asked.tag), asked.default_format, asked.parameters)
        add_result(self.counts, result)
        self.counts.result_rows = self.counts.written_rows
        return b""

    def _prepared_handle(self) -> Handle:
        asked = self.asked
        # readonly comes last: it forbids all further settings. 2 is what a server gives to a GET.
        settings = {name: value for name, value in asked.settings.items() if name != "readonly"}
        read_only = asked.settings.get("readonly", "0")
        if asked.read_only and read_only == "0":
            read_only = "2"
        # A session that were once read-only would stay so; a read-only query therefore gets a handle of its own, and
        # does not see the temporary tables of its session.
        if asked.session_id and read_only == "0":
            session = self._engine.session(
                asked.session_id, asked.session_timeout, must_exist=asked.session_check
            )
            handle = self._held.enter_context(session)
            self._held.enter_context(handle.holding(asked.database, settings))
            return handle
        handle = self._engine.open()
        self._held.callback(handle.close)
        handle.set(settings)
        if asked.database:
            handle.use(asked.database)
        if read_only != "0":
            handle.set({"readonly": read_only})
        return handle
