"""ClickHouse over HTTP, the embedded one and the real one alike."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect import common
from clickhouse_connect.driver.exceptions import ClickHouseError as DriverError
from clickhouse_connect.driver.exceptions import OperationalError

from cexdex.config import ClickHouse
from cexdex.runtime.logs import hide, masked

PASSWORD = "CEXDEX_CLICKHOUSE_PASSWORD"

# Sessions serialise the requests of a client, and none of ours needs one.
common.set_setting("autogenerate_session_id", False)

INSERT_SETTINGS = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "input_format_allow_errors_num": 0,
    "input_format_allow_errors_ratio": 0,
    "input_format_skip_unknown_fields": 0,
    "input_format_null_as_default": 0,
    "max_partitions_per_insert_block": 100,
}


class ClickHouseUnavailableError(Exception):
    """ClickHouse does not answer or does not let us in; trying again later may help."""


class ClickHouseRefusedError(Exception):
    """ClickHouse answered that the statement or its data is wrong: trying again will not help."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


# What a server says while it starts, stops, is overloaded or out of memory, disk or time.
_PASSING_CODES = frozenset(
    {159, 160, 202, 203, 209, 210, 241, 242, 243, 252, 285, 319, 373, 394, 425, 439, 516, 999}
)


class Warehouse:
    """The async client of one database. Raises ClickHouseUnavailableError or ClickHouseRefusedError."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    async def open(cls, config: ClickHouse, *, database: str | None = None) -> Warehouse:
        """Connects. database: another than the configured one; '' for none, to create one."""
        try:
            return cls(await clickhouse_connect.get_async_client(**_arguments(config, database)))
        except Exception as error:
            raise _translated(error, config.url) from error

    async def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows that a query answers."""
        try:
            result = await self._client.query(sql, parameters=dict(parameters or {}))
        except Exception as error:
            raise _translated(error, "") from error
        return [tuple(row) for row in result.result_rows]

    async def command(self, sql: str) -> None:
        """Runs a statement that answers nothing."""
        try:
            await self._client.command(sql)
        except Exception as error:
            raise _translated(error, "") from error

    async def insert(self, table: str, rows: bytes, *, token: str) -> None:
        """Inserts JSONEachRow. token: the same for every try of the same rows, so that they are stored once."""
        settings = {**INSERT_SETTINGS, "insert_deduplication_token": token}
        try:
            await self._client.raw_insert(table, insert_block=rows, settings=settings, fmt="JSONEachRow")
        except Exception as error:
            raise _translated(error, "") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()


def connect(config: ClickHouse, *, database: str | None = None) -> Any:
    """clickhouse-connect's own synchronous client, for commands. Raises as Warehouse does."""
    try:
        return clickhouse_connect.get_client(**_arguments(config, database))
    except Exception as error:
        raise _translated(error, config.url) from error


def password(config: ClickHouse) -> str:
    """From the configured file, else from the environment, read anew at every connection; '' when there is neither.

    The file goes first: an instance of this machine has one, and a variable that was set for another must not beat it.
    """
    if config.password_file is None:
        return hide(os.environ.get(PASSWORD, ""))
    try:
        return hide(config.password_file.read_text().strip())
    except OSError as error:
        raise ClickHouseUnavailableError(
            f"the ClickHouse password cannot be read from {config.password_file}: {error.strerror}"
        ) from error


def _arguments(config: ClickHouse, database: str | None) -> dict[str, Any]:
    url = urlsplit(config.url)
    name = config.database if database is None else database
    return {
        "host": url.hostname or "127.0.0.1",
        "port": url.port or (8443 if url.scheme == "https" else 8123),
        "interface": url.scheme or "http",
        "username": config.user,
        "password": password(config),
        **({"database": name} if name else {"database": "default"}),
        "connect_timeout": 5,
        "send_receive_timeout": 60,
        "query_limit": 0,
        "compress": False,
    }


def _translated(error: Exception, where: str) -> Exception:
    text = masked(str(error))
    code = getattr(error, "code", None) or _code_in(text)
    if isinstance(error, DriverError) and code and code not in _PASSING_CODES:
        return ClickHouseRefusedError(text[:2000], int(code))
    if code == 516:
        return ClickHouseUnavailableError(
            f"ClickHouse does not accept the user and password; {PASSWORD} or [clickhouse] password_file gives it"
        )
    if isinstance(error, (OperationalError, OSError, TimeoutError)) and not code:
        return ClickHouseUnavailableError(
            f"ClickHouse does not answer{' at ' + where if where else ''}; `cexdex up` starts one,"
            f" [clickhouse] url names another ({text[:200]})"
        )
    return ClickHouseUnavailableError(f"ClickHouse did not do it: {text[:500]}")


def _code_in(text: str) -> int:
    found = re.search(r"Code: (\d+)|error code (\d+)|HTTPDriver.*?code (\d+)", text)
    return int(next(group for group in found.groups() if group)) if found else 0
