"""Tells people of alerts, each target at its own pace, and records every attempt.

A target's commit stands at its oldest alert that is not settled, and what was delivered is read back from
alert_deliveries: a restart forgets nothing and repeats at most the deliveries that were in flight, under the same id.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from prometheus_client import Counter

from cexdex.config import Config, Target
from cexdex.records.alert_deliveries import AlertDelivery
from cexdex.records.alerts import Alert
from cexdex.records.record import declaration_of, decoder
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import (
    Publisher,
    TopicPartition,
    beginning_offsets,
    commit,
    committed,
    consumer,
    end_offsets,
    stop_consumer,
    topic_of,
)
from cexdex.runtime.logs import hide, masked
from cexdex.runtime.metrics import Monitor
from sinks.notify.ledger import Ledger
from sinks.notify.message import body, line, sample, title
from sinks.notify.webhook import TargetError, Verdict, pause_after, refused_address, request, verdict

log = structlog.get_logger(__name__)

READ_BACK_S = 600.0
TIMEOUT_S = 15.0
AT_ONCE = 8

_attempts = Counter("cexdex_notify_attempts", "what became of alerts", ["target", "status"])


async def run(
    config: Config,
    *,
    deliver: bool = True,
    replay: bool = False,
    until_end: bool = False,
    monitor: Monitor | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Delivers alerts to every configured target until it is cancelled.

    deliver=False: to terminals only (demo, replay). replay: from the first alert, and none is too old. until_end:
    returns when every alert that was there at the start is settled. say: writes a line on the terminal. Raises
    TargetError for a target that cannot work, and KafkaUnavailableError.
    """
    monitor = monitor or Monitor("notify", port=0)
    targets = [target for target in config.targets if deliver or target.kind == "terminal"]
    letters = Publisher(config, name="notify")
    await letters.start()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_GuardedResolver()), trust_env=False
    ) as session:
        post = _Post(session, say or _say)
        for target in targets:
            post.check(target)
        desks = [_Desk(config, target, post, letters, monitor, replay) for target in targets]
        try:
            async with asyncio.TaskGroup() as group:
                for desk in desks:
                    group.create_task(desk.run(until_end), name=f"notify {desk.name}")
        except BaseExceptionGroup as error:
            raise error.exceptions[0] from error
        finally:
            await letters.stop(within_s=5.0)


async def try_target(config: Config, name: str, *, say: Callable[[str], None] | None = None) -> str | None:
    """Sends a made-up alert to one target; answers why it failed, None when it was delivered. Raises TargetError."""
    target = next((target for target in config.targets if target.target == name), None)
    if target is None:
        raise TargetError(
            f"there is no target {name!r}; there are {', '.join(t.target for t in config.targets)}"
        )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=_GuardedResolver())) as session:
        post = _Post(session, say or _say)
        post.check(target)
        return (await post.send(target, sample(now_us()), 1)).error


class _Desk:
    """One target: reads alerts, decides, attempts, commits."""

    def __init__(
        self, config: Config, target: Target, post: _Post, letters: Publisher, monitor: Monitor, replay: bool
    ) -> None:
        self.name = target.target
        self._target = target
        self._post = post
        self._letters = letters
        self._monitor = monitor
        self._replay = replay
        self._config = config
        self._ledger = Ledger(target, expires=not replay)
        self._reader = consumer(config.kafka.servers, group=f"{config.topics.prefix}notify.{target.target}")
        self._alerts = TopicPartition(topic_of(config, declaration_of(Alert)), 0)
        self._decode = decoder(Alert).decode
        self._open: dict[int, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._disabled = False
        self._read = 0
        self._committed = -1

    async def run(self, until_end: bool) -> None:
        try:
            await self._reader.start()
            self._reader.assign([self._alerts])
            await self._place()
            await self._read_back()
            end = (await end_offsets(self._reader, [self._alerts]))[self._alerts] if until_end else None
            while end is None or self._read < end or self._open:
                await self._turn()
        finally:
            for task in self._open.values():
                task.cancel()
            await asyncio.gather(*self._open.values(), return_exceptions=True)
            with suppress(Exception):
                await asyncio.wait_for(self._commit(), 3.0)
            await stop_consumer(self._reader)

    async def _turn(self) -> None:
        try:
            got = await self._reader.getmany(timeout_ms=200, max_records=500)
            for record in (record for records in got.values() for record in records):
                self._read = record.offset + 1
                self._open[record.offset] = asyncio.create_task(self._settle(record.value))
                while len(self._open) >= 1000:
                    await asyncio.wait(self._open.values(), return_when=asyncio.FIRST_COMPLETED)
                    self._close_settled()
            self._close_settled()
            await self._commit()
            self._monitor.well("kafka")
        except OffsetOutOfRangeError:
            await self._place()
        except KafkaError as error:
            self._monitor.problem("kafka", f"Kafka cannot be read: {error!r}")
            await asyncio.sleep(0.5)

    def _close_settled(self) -> None:
        for offset in [offset for offset, task in self._open.items() if task.done()]:
            self._open.pop(offset).result()

    async def _commit(self) -> None:
        self._close_settled()
        offset = min(self._open, default=self._read)
        if offset > self._committed:
            await self._letters.flush()
            await commit(self._reader, {self._alerts: offset})
            self._committed = offset

    async def _settle(self, value: bytes) -> None:
        """Sees one alert through to its end: delivered, expired, in cooldown, or given up."""
        try:
            alert: Alert = self._decode(value)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("an alert cannot be read", target=self.name, error=str(error))  # The sink keeps it.
            return
        while True:
            decision = self._ledger.decide(alert, now_us())
            if decision == "ignore":
                return
            if decision != "deliver":
                self._note(self._ledger.entry(alert, decision, now_us=now_us()))
                return
            if self._disabled:
                self._note(
                    self._ledger.entry(alert, "abandoned", now_us=now_us(), error="the target is disabled")
                )
                return
            attempt = self._ledger.attempt(alert)
            async with self._slots:
                answer = await self._post.send(self._target, alert, attempt)
            if self._concluded(alert, answer):
                return
            assert answer.retry_after_s is not None
            await asyncio.sleep(answer.retry_after_s)

    def _concluded(self, alert: Alert, answer: Verdict) -> bool:
        now = now_us()
        if answer.delivered:
            self._note(self._ledger.entry(alert, "delivered", now_us=now))
            self._monitor.well(f"target {self.name}")
            return True
        if answer.disabled:
            self._disabled = True
        self._monitor.problem(f"target {self.name}", answer.error or "not delivered")
        log.warning("an alert was not delivered", target=self.name, error=answer.error)
        if answer.retry_after_s is None:
            self._note(self._ledger.entry(alert, "abandoned", now_us=now, error=answer.error))
            return True
        next_at = now + int(answer.retry_after_s * 1e6)
        self._note(self._ledger.entry(alert, "failed", now_us=now, error=answer.error, next_at=next_at))
        return False

    def _note(self, delivery: AlertDelivery) -> None:
        _attempts.labels(self.name, delivery.status).inc()
        self._letters.publish(delivery)

    async def _place(self) -> None:
        """A new target starts at the end: nobody wants yesterday's alerts. A replay starts at the beginning."""
        known = (await committed(self._reader, [self._alerts]))[self._alerts]
        begin = (await beginning_offsets(self._reader, [self._alerts]))[self._alerts]
        end = (await end_offsets(self._reader, [self._alerts]))[self._alerts]
        if known is None or known > end:
            known = begin if self._replay else end
        self._read = max(known, begin)
        self._reader.seek(self._alerts, self._read)
        await commit(self._reader, {self._alerts: self._read})
        self._committed = self._read

    async def _read_back(self) -> None:
        """What this target was told in the time that still matters: the longest cooldown, at least ten minutes."""
        partition = TopicPartition(topic_of(self._config, declaration_of(AlertDelivery)), 0)
        reader = consumer(self._config.kafka.servers)
        decode = decoder(AlertDelivery).decode
        await reader.start()
        try:
            reader.assign([partition])
            since = 0 if self._replay else now_us() - int(max(self._target.cooldown_s, READ_BACK_S) * 1e6)
            found = (await reader.offsets_for_times({partition: since // 1000}))[partition]
            end = (await end_offsets(reader, [partition]))[partition]
            position = end if found is None else found.offset
            reader.seek(partition, position)
            while position < end:
                for record in (await reader.getmany(partition, timeout_ms=500)).get(partition, []):
                    position = record.offset + 1
                    with suppress(msgspec.MsgspecError, ValueError):
                        self._ledger.recall(decode(record.value))
        finally:
            await stop_consumer(reader)


class _Post:
    """Performs one attempt at any kind of target."""

    def __init__(self, session: aiohttp.ClientSession, say: Callable[[str], None]) -> None:
        self._session = session
        self._say = say

    def check(self, target: Target) -> None:
        """Raises TargetError where a target can be seen not to work."""
        if target.kind == "webhook":
            request(sample(0), _url(target), _secrets(target), 0)
        elif target.kind == "apprise":
            _apprise(target)

    async def send(self, target: Target, alert: Alert, attempt: int) -> Verdict:
        try:
            if target.kind == "terminal":
                self._say(line(alert))
                return Verdict(True)
            if target.kind == "webhook":
                return await self._webhook(target, alert, attempt)
            return await self._chat(target, alert, attempt)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Verdict(False, pause_after(attempt), masked(str(error) or type(error).__name__)[:300])
        except TargetError as error:
            return Verdict(False, None, str(error))

    async def _webhook(self, target: Target, alert: Alert, attempt: int) -> Verdict:
        # Read at each attempt, so that a secret can be replaced without a restart.
        made = request(alert, _url(target), _secrets(target), now_us())
        async with self._session.post(
            made.url,
            data=made.body,
            headers=made.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        ) as answer:
            return verdict(answer.status, answer.headers, attempt)

    async def _chat(self, target: Target, alert: Alert, attempt: int) -> Verdict:
        sent = await asyncio.wait_for(
            asyncio.to_thread(
                _apprise(target).notify, title=title(alert), body=body(alert), body_format="text"
            ),
            TIMEOUT_S,
        )
        return Verdict(True) if sent else Verdict(False, pause_after(attempt), "apprise could not deliver it")


class _GuardedResolver(AbstractResolver):
    """Looks at every address a name leads to, at the moment it is used: a name may lead elsewhere than yesterday."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for result in found:
            if (refused := refused_address(result["host"])) is not None:
                raise OSError(errno.EACCES, f"{host}: {refused}")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _url(target: Target) -> str:
    url = target.url or _from_outside(target.url_env, target.url_file)
    if not url:
        raise TargetError(f"target {target.target} needs url, url_env or url_file")
    return url if target.url else hide(url)


def _secrets(target: Target) -> Sequence[str]:
    text = _from_outside(target.secret_env, target.secret_file)
    return [hide(secret.strip()) for secret in text.splitlines() if secret.strip()]


def _from_outside(variable: str | None, file: Any) -> str:
    if variable is not None:
        return os.environ.get(variable, "").strip()
    if file is None:
        return ""
    try:
        return str(file.read_text()).strip()
    except OSError as error:
        raise TargetError(f"{file} cannot be read: {error.strerror}") from error


def _apprise(target: Target) -> Any:
    try:
        import apprise
    except ImportError as error:
        raise TargetError(
            f"target {target.target} needs apprise, which is not installed: pip install 'cexdex[apprise]'"
        ) from error
    made = apprise.Apprise()
    if not made.add(_url(target)):
        raise TargetError(f"apprise does not know the kind of url of target {target.target}")
    return made


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
