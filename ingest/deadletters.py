"""What a venue sent and nobody could read: kept, but never more than ten a second of one origin."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from hashlib import sha256

from msgspec import DecodeError

from cexdex.records.dead_letters import DeadLetter
from cexdex.records.record import Micros
from ingest.feed import Feed, Output

PAYLOAD_LIMIT = 65_536
PER_SECOND = 10


class DeadLetters:
    """The unreadable frames of one connection."""

    def __init__(self, venue: str, connection: str, counts: Counter[str]) -> None:
        self._venue = venue
        self._connection = connection
        self._counts = counts
        self._second = 0
        self._letters = 0

    def letter(self, payload: bytes, error: Exception, now: Micros) -> DeadLetter | None:
        """The record of an unreadable frame; None when this second has had its share, which is counted."""
        self._counts["dead_letters"] += 1
        second = now // 1_000_000
        if second != self._second:
            self._second, self._letters = second, 0
        self._letters += 1
        if self._letters > PER_SECOND:
            self._counts["dead_letters_not_kept"] += 1
            return None
        return DeadLetter(
            origin=f"{self._venue}/{self._connection}",
            received_at=now,
            venue=self._venue,
            connection=self._connection,
            error=str(error)[:500],
            payload=b64encode(payload[:PAYLOAD_LIMIT]).decode(),
            length=len(payload),
            sha256=sha256(payload).hexdigest(),
        )

    def receive(self, feed: Feed, frame: bytes, now: Micros) -> list[Output]:
        """What a feed makes of a frame; an unreadable one becomes a dead letter and the path goes on."""
        outputs: list[Output] = []
        try:
            outputs.extend(feed.receive(frame, now))
        except (DecodeError, ValueError) as error:  # ValidationError is a DecodeError
            letter = self.letter(frame, error, now)
            if letter is not None:
                outputs.append(letter)
        return outputs

    def fetched(self, feed: Feed, tag: str, body: bytes, now: Micros) -> list[Output]:
        """The same of a REST answer."""
        outputs: list[Output] = []
        try:
            outputs.extend(feed.fetched(tag, body, now))
        except (DecodeError, ValueError) as error:
            letter = self.letter(body, error, now)
            if letter is not None:
                outputs.append(letter)
        return outputs
