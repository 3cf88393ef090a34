"""What venues and the server hand each other: sockets to write to, answers to requests, and a venue's face."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from simulator.faults import Disturbance
from simulator.market import Change


@dataclass(frozen=True, slots=True)
class Text:
    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    code: int
    reason: str


Outgoing = Text | Ping | Pong | Close


class Connection:
    """One client's socket: frames wait here until the server has written them."""

    # A client that lets so many frames pile up is cut off, as venues do with slow consumers.
    LIMIT = 20_000

    def __init__(self) -> None:
        self.waiting: deque[Outgoing] = deque()
        self.dead = False
        """Half-open: the socket stands, but nothing is sent or answered any more."""
        self.aborted = False
        self.sent = 0
        self.inbound: deque[int] = deque(maxlen=64)

    def send(self, frame: bytes) -> None:
        self._put(Text(frame))
        self.sent += 1

    def ping(self, payload: bytes) -> None:
        self._put(Ping(payload))

    def pong(self, payload: bytes) -> None:
        self._put(Pong(payload))

    def close(self, code: int, reason: str) -> None:
        self._put(Close(code, reason))

    def abort(self) -> None:
        """Drop the socket without a close frame."""
        self.aborted = True
        self.waiting.clear()

    def exceeds(self, messages: int, now: int) -> bool:
        """Note one inbound message; whether it is more than `messages` within a second."""
        self.inbound.append(now)
        return len(self.inbound) > messages and now - self.inbound[-1 - messages] < 1_000_000

    def _put(self, outgoing: Outgoing) -> None:
        if self.dead or self.aborted:
            return
        if len(self.waiting) >= self.LIMIT:
            self.abort()
            return
        self.waiting.append(outgoing)


class Attempts:
    """Connection attempts, of which a venue allows so many within a time."""

    def __init__(self, limit: int, within_us: int) -> None:
        self._times: deque[int] = deque(maxlen=limit)
        self._within_us = within_us

    def exceed(self, now: int) -> bool:
        """Note one attempt; whether it is one too many."""
        times = self._times
        too_many = len(times) == times.maxlen and now - times[0] < self._within_us
        times.append(now)
        return too_many


SWITCHING = 101
NOT_FOUND = 404
TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, orjson.dumps(body), headers or {})


class Venue(Protocol):
    """Told what its market and its clients do, and the time; writes frames to connections."""

    name: str
    disturbance: Disturbance

    def connections(self) -> list[Connection]: ...

    def opened(self, connection: Connection, path: str, query: Mapping[str, str], now: int) -> int:
        """101 if the venue serves sockets there, else the HTTP status that the upgrade is refused with."""

    def received(self, connection: Connection, text: str, now: int) -> None: ...

    def ponged(self, connection: Connection, now: int) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def publish(self, change: Change) -> None: ...

    def tick(self, now: int) -> None:
        """Called after every step of the market."""

    def shut_down(self, now: int, seconds: float) -> None:
        """Announce a scripted close, where the venue does, and close after so long."""

    def get(self, path: str, query: Mapping[str, str], now: int) -> Answer: ...
