"""The Kafka topics that the records declare: their names, how they are made, and what differs in a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from cexdex.config import Config
from cexdex.records.record import Declaration, declarations

DAY_MS = 86_400_000
MARKET_BYTES = 1 << 30
SMALL_BYTES = 128 << 20


class KafkaUnavailableError(Exception):
    """Kafka cannot be used as it is; one sentence says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it should be."""

    name: str
    plain: str
    partitions: int
    settings: dict[str, str]


def topic_name(prefix: str, topic: str, version: int = 1) -> str:
    """`cexdex.` + `market` + `.v1`."""
    return f"{prefix}{topic}.v{version}"


def topic_of(config: Config, declaration: Declaration) -> str:
    """The full name of the topic that a record type is written to."""
    return topic_name(config.topics.prefix, declaration.topic, declaration.version)


def topics(config: Config, *, kept_for_ever: bool = False) -> list[Topic]:
    """Every declared topic. kept_for_ever: no retention limit, as a replay wants it.

    Raises ValueError when the records of one topic disagree about it.
    """
    by_topic: dict[str, list[Declaration]] = {}
    for declaration in declarations().values():
        by_topic.setdefault(declaration.topic, []).append(declaration)
    return [_topic(config, plain, found, kept_for_ever) for plain, found in sorted(by_topic.items())]


async def create_topics(config: Config, *, kept_for_ever: bool = False) -> list[str]:
    """Creates what is missing and leaves what exists as it is; answers with the names created.

    Raises KafkaUnavailableError.
    """
    wanted = topics(config, kept_for_ever=kept_for_ever)
    async with _admin(config) as admin:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        if not missing:
            return []
        answer = await admin.create_topics(
            [
                NewTopic(t.name, t.partitions, config.topics.replication, topic_configs=t.settings)
                for t in missing
            ]
        )
        _raise_first(answer.topic_errors, besides=TopicAlreadyExistsError)
        await _await_leaders(admin, {topic.name for topic in missing})
    return [topic.name for topic in missing]


async def compare_topics(config: Config, *, kept_for_ever: bool = False) -> list[str]:
    """What differs between the declared topics and the broker's, a sentence each; empty when nothing does."""
    wanted = {topic.name: topic for topic in topics(config, kept_for_ever=kept_for_ever)}
    async with _admin(config) as admin:
        found = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
        settings = await _settings(admin, [name for name in wanted if name in found])
    differences: list[str] = []
    for name, topic in wanted.items():
        if name not in found:
            differences.append(f"{name} does not exist; `cexdex topics --create` makes it")
            continue
        if found[name] != topic.partitions:
            differences.append(
                f"{name} has {found[name]} partitions where the configuration says {topic.partitions};"
                " a topic keeps its number, so change [topics] partitions or use another prefix"
            )
        for key, value in topic.settings.items():
            if (actual := settings[name].get(key)) != value:
                differences.append(f"{name} has {key}={actual} where {value} is expected")
    return differences


async def delete_topics(config: Config) -> list[str]:
    """Deletes every topic under the configured prefix, with all that is in it; answers with their names."""
    async with _admin(config) as admin:
        names = [name for name in await admin.list_topics() if name.startswith(config.topics.prefix)]
        if names:
            answer = await admin.delete_topics(names)
            _raise_first((name, code, "") for name, code in answer.topic_error_codes)
            async with asyncio.timeout(15):  # the broker answers before it has forgotten them
                while True:
                    left = {entry["topic"] for entry in await admin.describe_topics()}
                    if left.isdisjoint(names):
                        break
                    await asyncio.sleep(0.05)
    return sorted(names)


async def partition_counts(config: Config) -> dict[str, int]:
    """How many partitions each declared topic has in the broker, by its full name.

    Raises KafkaUnavailableError when a declared topic does not exist.
    """
    async with _admin(config) as admin:
        found = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
    counts: dict[str, int] = {}
    for topic in topics(config):
        if topic.name not in found:
            raise KafkaUnavailableError(
                f"topic {topic.name} does not exist; `cexdex topics --create` makes it"
            )
        counts[topic.name] = found[topic.name]
    return counts


def _topic(config: Config, plain: str, found: list[Declaration], kept_for_ever: bool) -> Topic:
    shapes = {(d.key, d.compact, d.version) for d in found}
    if len(shapes) > 1:
        raise ValueError(f"the records of topic {plain} disagree about its key, compaction or version")
    first = found[0]
    settings = {"message.timestamp.type": "LogAppendTime", "compression.type": "lz4"}
    if first.compact:
        settings |= {
            "cleanup.policy": "compact",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "min.compaction.lag.ms": str(DAY_MS),
            # Only closed segments are compacted, and a small topic would not fill one in years.
            "segment.ms": str(DAY_MS),
        }
    else:
        market = plain == "market"
        # Bytes are limited where one machine's disk is all there is; a cluster is sized by its days.
        limited = config.topics.replication == 1 and not kept_for_ever
        settings |= {
            "cleanup.policy": "delete",
            "retention.ms": "-1" if kept_for_ever else str(DAY_MS if market else 7 * DAY_MS),
            "retention.bytes": str(MARKET_BYTES if market else SMALL_BYTES) if limited else "-1",
        }
    return Topic(
        name=topic_of(config, first),
        plain=plain,
        partitions=config.topics.partitions if first.by_market else 1,
        settings=settings,
    )


@asynccontextmanager
async def _admin(config: Config) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.servers, request_timeout_ms=15_000)
    try:
        await admin.start()
        yield admin
    except KafkaConnectionError as error:
        raise unreachable(config) from error
    except (KafkaError, TimeoutError) as error:
        raise KafkaUnavailableError(f"Kafka at {config.kafka.servers} refused: {error!r}") from error
    finally:
        await admin.close()


def unreachable(config: Config) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"Kafka does not answer at {config.kafka.servers}; `cexdex up` starts one, [kafka] servers names another"
    )


async def _await_leaders(admin: Any, names: set[str]) -> None:
    """A topic is created before every broker knows of it, and before its partitions have a leader."""
    async with asyncio.timeout(15):
        while True:
            ready = {
                entry["topic"]
                for entry in await admin.describe_topics()
                if entry["partitions"] and all(part["leader"] >= 0 for part in entry["partitions"])
            }
            if names <= ready:
                return
            await asyncio.sleep(0.05)


async def _settings(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }


def _raise_first(errors: Iterable[tuple[Any, ...]], besides: type[Exception] | None = None) -> None:
    for name, code, *message in errors:
        kind = for_code(code)
        if code and kind is not besides:
            raise KafkaUnavailableError(
                f"topic {name}: {kind.__name__} {message[0] if message else ''}".rstrip()
            )
