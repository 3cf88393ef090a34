"""A producer that answers when a test says so, and keeps what came through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaConnectionError


@dataclass
class Record:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass
class Batch:
    room: int
    records: list[Record] = field(default_factory=list)

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> Any:
        size = sum(len(record.value) for record in self.records)
        if self.records and size + len(value) > self.room:
            return None
        self.records.append(Record(key, value, headers))
        return self

    def record_count(self) -> int:
        return len(self.records)


class Broker:
    """Where the records of all producers arrive. hold: batches wait until `answer`."""

    def __init__(self) -> None:
        self.log: dict[tuple[str, int], list[Record]] = {}
        self.batches: list[tuple[tuple[str, int], int]] = []
        self.held: list[tuple[asyncio.Future[None], tuple[str, int], Batch]] = []
        self.hold = False
        self.away = False
        self.errors: list[Exception] = []
        self.refuses: Any = lambda record: None
        self.producers = 0

    def __call__(self, **settings: Any) -> Producer:
        self.producers += 1
        self.settings = settings
        return Producer(self, settings["max_batch_size"])

    def take(self, future: asyncio.Future[None], place: tuple[str, int], batch: Batch) -> None:
        if future.done():
            return
        refusals = [error for record in batch.records if (error := self.refuses(record)) is not None]
        if refusals or self.errors:
            future.set_exception(refusals[0] if refusals else self.errors.pop(0))
            return
        self.batches.append((place, len(batch.records)))
        self.log.setdefault(place, []).extend(batch.records)
        future.set_result(None)

    def answer(self) -> None:
        self.hold = False
        held, self.held = self.held, []
        for future, place, batch in held:
            self.take(future, place, batch)


class Producer:
    def __init__(self, broker: Broker, room: int) -> None:
        self._broker = broker
        self._room = room
        self.client = self
        self._sender = self

    async def start(self) -> None:
        if self._broker.away:
            raise KafkaConnectionError

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> Batch:
        return Batch(self._room)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (topic, partition)
        if self._broker.hold:
            self._broker.held.append((future, place, batch))
        else:
            asyncio.get_running_loop().call_soon(self._broker.take, future, place, batch)
        return future

    async def stop(self) -> None:
        if self._broker.hold:
            await asyncio.Event().wait()  # as aiokafka's does while the broker is away

    async def close(self) -> None: ...
