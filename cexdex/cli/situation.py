"""What a command is called with: which configuration, which data folder, which ports, and what runs there now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cexdex.config import Config, ConfigError, load
from cexdex.runtime.datafolder import Running, read_running

STAGE_PORTS = {"ingest": 9100, "process": 9101, "sink": 9102, "notify": 9103}
SIMULATOR_PORT = 8200


class NothingRunsError(Exception):
    """The command needs a running instance; the sentence says how to start one."""


class NotReadyError(Exception):
    """Somebody has the data folder, and what the command needs does not run there yet; the sentence names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    config_file: Path | None
    data: Path
    port_offset: int
    debug: bool

    @property
    def cache(self) -> Path:
        """Where Kafka's jars are kept: never in a folder that is emptied."""
        import os

        return Path(os.environ.get("CEXDEX_CACHE", ".cexdex/jars"))

    def folder(self, database: str | None = None) -> Path:
        """The data folder of a database: the demo has its own below the main one."""
        return self.data / "demo" if database == "demo" else self.data

    def running(
        self, database: str | None = None, *, needed: Literal["kafka", "clickhouse_url"] = "kafka"
    ) -> Running | None:
        """What a command can connect to. Raises NotReadyError while the folder's owner does not have it."""
        running = read_running(self.folder(database))
        if running is None or getattr(running, needed):
            return running
        folder, command = self.folder(database), f"`cexdex {running.kind}` (process {running.pid})"
        does = (
            f"{folder} is used by {command}"
            if running.kind == "sql"
            else f"{command} is starting in {folder}"
        )
        raise NotReadyError(f"{does}; try again in a moment")

    def config(self, database: str | None = None, **overrides: Any) -> Config:
        """The configuration, pointed at the running instance where there is one."""
        running = read_running(self.folder(database))
        effective = self.folder(database) / "config.json"
        # the file of an earlier run lies there too
        ready = running is not None and running.kafka
        if ready and self.config_file is None and effective.exists():
            return load(effective, overrides=overrides)
        return load(self.config_file, overrides=overrides)

    def connected(self, database: str | None = None) -> tuple[Config, Running]:
        """The same, where an instance must be running."""
        running = self.running(database)
        if running is None:
            what = "make demo" if database == "demo" else "cexdex up"
            raise NothingRunsError(f"nothing runs in {self.folder(database)}; start it with `{what}`")
        return self.config(database), running


def narrowed(config: Config, markets: list[str] | None) -> Config:
    """The configuration with other markets. Raises ConfigError for a name that is no market."""
    if not markets:
        return config
    for market in markets:
        if market.count("-") != 1:
            raise ConfigError(f"{market!r} is no market; one is written BASE-QUOTE, as BTC-USD")
    return config.model_copy(update={"markets": markets})
