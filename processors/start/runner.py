"""What a worker must know before it reads on: the rules in the topic, and what it said last itself (DESIGN §10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from cexdex.config import Config
from cexdex.records.record import Record, declaration_of, decoder
from cexdex.records.rules import Rule
from cexdex.runtime import kafka
from cexdex.runtime.places import Place, first_since, read_to_end, read_whole, received_at
from processors.processor import discover
from processors.rules import rules_to_say

RULE_DELAY_US = 5_000_000
"""How long before the first record of a replay, or from now on, a rule takes effect."""
OWN_BEFORE_US = 20_000_000


async def said_before(
    config: Config, reader: AIOKafkaConsumer, places: Mapping[TopicPartition, Place], partitions: int
) -> dict[int, list[Record]]:
    """By partition of `market`: what its processors said before the commit, of the kinds they need back."""
    own: dict[int, list[Record]] = {tp.partition: [] for tp in places}
    commits = {tp.partition: place for tp, place in places.items() if place.at is not None}
    recalled: set[type[Record]] = set()
    for make in discover().values():
        recalled |= set(make.recalls)  # type: ignore[attr-defined]
    for struct in sorted(recalled, key=lambda struct: struct.__name__):
        declaration = declaration_of(struct)
        parts = list(commits) if declaration.by_market else [0] if commits else []
        for part in parts:
            tp = TopicPartition(kafka.topic_of(config, declaration), part)
            begin: int | None = (await kafka.beginning_offsets(reader, [tp]))[tp]
            if not declaration.compact:
                begin = await first_since(reader, tp, (commits[part].at or 0) - OWN_BEFORE_US)
            if begin is None:
                continue
            async for message in read_to_end(reader, tp, begin):
                record = decoder(struct).decode(message.value)
                number = kafka.partition_of(record.market.encode(), partitions)
                if number in commits and record.source_offset < commits[number].commit:
                    own[number].append(record)
    return own


async def say_rules(
    config: Config,
    reader: AIOKafkaConsumer,
    publish: Callable[[Iterable[Record]], None],
    now: int,
    *,
    before: list[TopicPartition] | None,
) -> None:
    """Publishes the configuration's rules where they differ from what stands in the topic.

    before: the partitions before whose first record they take effect (a replay); None: 5 s from now.
    """
    stands: dict[str, Rule] = {}
    async for message in read_whole(reader, TopicPartition(kafka.topic_of(config, declaration_of(Rule)), 0)):
        rule = decoder(Rule).decode(message.value)
        stands[rule.rule] = rule
    effective_at = now + RULE_DELAY_US
    if before is not None:
        begins = await kafka.beginning_offsets(reader, before)
        firsts = [await received_at(reader, tp, begins[tp]) for tp in before]
        now = effective_at = min(firsts, default=now) - RULE_DELAY_US
    publish(rules_to_say(config.rules, stands, now, effective_at))
