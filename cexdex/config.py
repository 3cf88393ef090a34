"""The configuration: cexdex/defaults.toml, then cexdex.toml, then CEXDEX_* from the environment.

Read once by the command line and passed down in parts; no other module reads the environment. An unknown key is
refused, because a typo that is ignored is a setting that is believed. Secrets never stand in a TOML file: a target or
key names the environment variable or the file that holds them.
"""

from __future__ import annotations

import json
import tomllib
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cexdex.domain.assets import Assets


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and what it takes."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kafka(Part):
    servers: str


class Topics(Part):
    prefix: str
    partitions: int = Field(ge=1, le=512)
    replication: int = Field(ge=1, le=9)


class ClickHouse(Part):
    url: str
    user: str
    database: str
    password_file: Path | None = None
    """The password itself comes from here or from CEXDEX_CLICKHOUSE_PASSWORD."""


class Venue(Part):
    enabled: bool = True
    ws_url: str
    rest_url: str
    taker_fee_bps: float = Field(ge=0, lt=1000)
    maker_fee_bps: float = Field(ge=-100, lt=1000)
    fee_source: str
    fee_as_of: date
    fees: dict[str, float] = {}
    """Taker fee in bps of single instruments, where they differ."""
    verified_within_s: float = Field(gt=0)
    """How long a quote is believed without proof that it is current."""
    snapshot_limit: int = 5000
    depth: int = 500
    top_of_book: bool = False
    trades: Literal["trade", "aggTrade"] = "trade"
    connects_per_5min: int = Field(ge=1)
    messages_per_s: int = Field(ge=1)
    max_frame_mb: int = Field(ge=1, le=64)


class Rule(Part):
    rule: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
    markets: list[str] = []
    venues: list[str] = []
    notional_usd: float | None = None
    basis: Literal["net", "gross"] = "net"
    converted: bool = True
    enter_bps: float
    clear_bps: float
    for_s: float = Field(default=0, ge=0)
    enabled: bool = True

    @model_validator(mode="after")
    def _hysteresis(self) -> Rule:
        if self.clear_bps > self.enter_bps:
            raise ValueError(f"rule {self.rule}: clear_bps must not be above enter_bps")
        return self


class Target(Part):
    """Somebody to tell: the terminal, a signed webhook, or anything apprise can reach."""

    target: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
    kind: Literal["terminal", "webhook", "apprise"]
    url: str | None = None
    """Of a webhook; may hold no secret."""
    url_env: str | None = None
    url_file: Path | None = None
    """Where the URL of an apprise target (which holds its secret) is kept."""
    secret_env: str | None = None
    secret_file: Path | None = None
    """Where a webhook's signing secret (whsec_…) is kept; several, one a line, sign side by side."""
    rules: list[str] = []
    """Empty: every rule."""
    cooldown_s: float = Field(default=60, ge=0)


class Config(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CEXDEX_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    markets: list[str]
    quote_assets: list[str]
    notionals_usd: list[float]
    implausible_bps: float
    depegged_bps: float
    same_venue_edges: bool
    spread_step_bps: float
    spread_floor_bps: float
    kafka: Kafka
    topics: Topics
    clickhouse: ClickHouse
    venues: dict[str, Venue]
    rules: list[Rule] = []
    targets: list[Target] = [Target(target="terminal", kind="terminal")]
    keep_days: dict[str, int] = {}

    @field_validator("notionals_usd")
    @classmethod
    def _sizes(cls, sizes: list[float]) -> list[float]:
        if any(size <= 0 for size in sizes) or len(set(sizes)) != len(sizes):
            raise ValueError("notionals_usd takes different positive numbers")
        return sorted(sizes)

    @model_validator(mode="after")
    def _rules(self) -> Config:
        names = [rule.rule for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name")
        for rule in self.rules:
            if rule.notional_usd is not None and rule.notional_usd not in self.notionals_usd:
                raise ValueError(
                    f"rule {rule.rule}: notional_usd {rule.notional_usd:g} is not among notionals_usd"
                    f" {[f'{size:g}' for size in self.notionals_usd]}"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # pydantic-settings merges deeply, the first source winning: the environment over the files given to init.
        return env_settings, init_settings


NOT_SETTINGS = ("CEXDEX_DATA", "CEXDEX_CACHE", "CEXDEX_MAVEN_REPO", "CEXDEX_RECORDINGS", "CEXDEX_PARENT_FD")


def load(path: Path | None = None, *, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration in force: `path` (default ./cexdex.toml where it exists) over the defaults.

    A file that ends in .json is one that the command line wrote for its own stages.

    Raises ConfigError in one sentence that names the key.
    """
    document = _defaults()
    file = path or Path("cexdex.toml")
    if path is not None or file.exists():
        try:
            text = file.read_text()
            document = merged(document, json.loads(text) if file.suffix == ".json" else tomllib.loads(text))
        except FileNotFoundError:
            raise ConfigError(f"there is no configuration file {file}") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from None
    try:
        return Config(**merged(document, overrides or {}))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"{file}: there is no setting {key!r}; cexdex/defaults.toml lists them"
            ) from None
        raise ConfigError(f"{file}: {key + ': ' if key else ''}{first['msg']}") from None


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `under`, tables merged, everything else replaced."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


@cache
def assets() -> Assets:
    """The registry of assets that is shipped with the package."""
    return Assets.parse(tomllib.loads(files("cexdex").joinpath("assets.toml").read_text()))


def _defaults() -> dict[str, Any]:
    return tomllib.loads(files("cexdex").joinpath("defaults.toml").read_text())
