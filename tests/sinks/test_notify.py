"""Alerts from Kafka to a receiver that answers as receivers do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from cexdex.config import Config, Target
from cexdex.records.alerts import Alert
from cexdex.runtime.clock import now_us
from cexdex.runtime.kafka import create_topics
from cexdex.runtime.metrics import Monitor
from sinks.notify import runner
from sinks.notify.message import sample
from sinks.notify.webhook import TargetError
from sinks.runner import run as sink
from tests.sinks.test_sink import publish, rows

pytestmark = pytest.mark.integration

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Answers with the statuses it is given, then with 204."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, Any]] = []
        self.url = ""
        self.holds: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.Response:
        content = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        self.got.append((request.headers["webhook-id"], content["data"]))
        if self.holds is not None:
            await self.holds.wait()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    def told(self) -> list[str]:
        return [data["alert_id"] for _, data in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.answer)
    started = web.AppRunner(app)
    await started.setup()
    await web.TCPSite(started, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{started.addresses[0][1]}/hook"
    yield receiver
    await started.cleanup()


@pytest.fixture
def notified(config: Config, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    monkeypatch.setattr("sinks.notify.webhook.RETRY_AFTER_S", (0.2, 0.2, 0.2, 0.2))
    target = Target(target="desk", kind="webhook", url=receiver.url, secret_file=secret, cooldown_s=0)
    return config.model_copy(update={"targets": [target]})


def alert(name: str, **changes: Any) -> Alert:
    return msgspec.structs.replace(sample(now_us()), alert_id=name, **changes)


async def started(config: Config, **settings: Any) -> asyncio.Task[None]:
    """A notifier that has found its place: what is published from now on is news to it."""
    task = asyncio.create_task(runner.run(config, **settings))
    await asyncio.sleep(1.5)
    assert not task.done()
    return task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_alert_is_tried_until_it_is_taken_and_a_restart_does_not_repeat_it(
    notified: Config, receiver: Receiver
) -> None:
    await create_topics(notified)
    await publish(notified, alert("yesterday's"))
    task = await started(notified)
    receiver.statuses = [500, 503]
    at = now_us()
    await publish(notified, alert("a"), alert("pending", state="pending"), alert("quiet", deliver=False))
    await until(lambda: len(receiver.got) == 3)
    assert receiver.told() == ["a", "a", "a"]
    assert len({id_ for id_, _ in receiver.got}) == 1
    await asyncio.sleep(0.5)
    await ended(task)
    again = await started(notified)
    await publish(notified, alert("b"))
    await until(lambda: len(receiver.got) == 4)
    await asyncio.sleep(0.5)
    await ended(again)
    assert receiver.told() == ["a", "a", "a", "b"]
    await sink(notified, until_end=True)
    deliveries = await rows(
        notified, "SELECT alert_id, attempt, status FROM alert_deliveries FINAL ORDER BY alert_id, attempt"
    )
    assert deliveries == [
        ("a", 1, "failed"),
        ("a", 2, "failed"),
        ("a", 3, "delivered"),
        ("b", 1, "delivered"),
    ]
    assert all(
        received >= at for (received,) in await rows(notified, "SELECT received_at FROM alert_deliveries")
    )


NOTIFIER = """
import asyncio, json, sys
from cexdex.config import load
from sinks.notify.runner import run
asyncio.run(run(load(overrides=json.loads(sys.argv[1]))))
"""


def notifier(config: Config) -> subprocess.Popen[bytes]:
    overrides = {
        "kafka": {"servers": config.kafka.servers},
        "topics": {"prefix": config.topics.prefix, "partitions": config.topics.partitions},
        "targets": [target.model_dump(mode="json") for target in config.targets],
    }
    return subprocess.Popen(
        [sys.executable, "-c", NOTIFIER, json.dumps(overrides)], env=os.environ | {"PYTHONPATH": "."}
    )


@pytest.mark.faults
async def test_a_kill_in_the_middle_of_a_delivery_repeats_it_under_the_same_id_and_nothing_else(
    notified: Config, receiver: Receiver
) -> None:
    await create_topics(notified)
    await ended(await started(notified))  # It has its place now: what follows is news.
    await publish(notified, alert("a"))
    first = notifier(notified)
    await until(lambda: receiver.told() == ["a"], 30)
    await asyncio.sleep(1.0)  # recorded and committed
    receiver.holds = asyncio.Event()
    await publish(notified, alert("b"))
    await until(lambda: receiver.told() == ["a", "b"], 30)
    first.kill()
    await asyncio.to_thread(first.wait)
    receiver.holds.set()
    second = notifier(notified)
    await publish(notified, alert("c"))
    await until(lambda: receiver.told()[-1] == "c", 30)
    await asyncio.sleep(0.5)
    second.kill()
    await asyncio.to_thread(second.wait)
    assert receiver.told() == ["a", "b", "b", "c"]
    ids = [id_ for id_, _ in receiver.got]
    assert ids[1] == ids[2]


async def test_what_is_older_than_five_minutes_is_recorded_and_not_sent(
    notified: Config, receiver: Receiver
) -> None:
    await create_topics(notified)
    task = await started(notified)
    await publish(
        notified, msgspec.structs.replace(alert("old"), received_at=now_us() - 301_000_000), alert("new")
    )
    await until(lambda: len(receiver.got) == 1)
    await asyncio.sleep(0.5)
    await ended(task)
    assert receiver.told() == ["new"]
    await sink(notified, until_end=True)
    assert await rows(notified, "SELECT alert_id, status FROM alert_deliveries FINAL ORDER BY alert_id") == [
        ("new", "delivered"),
        ("old", "expired"),
    ]


async def test_a_receiver_that_is_gone_is_left_alone(notified: Config, receiver: Receiver) -> None:
    await create_topics(notified)
    monitor = Monitor("notify", port=0)
    task = await started(notified, monitor=monitor)
    receiver.statuses = [410]
    await publish(notified, alert("a"))
    await until(lambda: len(receiver.got) == 1)
    await publish(notified, alert("b"))
    await asyncio.sleep(1)
    await ended(task)
    assert receiver.told() == ["a"]
    assert "410" in monitor.problems["target desk"]


async def test_without_deliver_only_the_terminal_is_told(notified: Config, receiver: Receiver) -> None:
    await create_topics(notified)
    both = notified.model_copy(
        update={"targets": [*notified.targets, Target(target="here", kind="terminal", cooldown_s=0)]}
    )
    await publish(both, alert("a"))
    said: list[str] = []
    await runner.run(both, deliver=False, replay=True, until_end=True, say=said.append)
    assert len(said) == 1
    assert "FIRING test" in said[0]
    assert receiver.got == []


async def test_a_target_is_tried_out_and_a_broken_one_is_named(notified: Config, receiver: Receiver) -> None:
    assert await runner.try_target(notified, "desk") is None
    assert receiver.got[0][1]["rule"] == "test"
    with pytest.raises(TargetError, match="there is no target 'x'"):
        await runner.try_target(notified, "x")
    broken = Target(
        target="broken", kind="webhook", url="http://169.254.169.254/", secret_file=Path("/nowhere")
    )
    with pytest.raises(TargetError):
        await runner.try_target(notified.model_copy(update={"targets": [broken]}), "broken")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
async def test_chat_and_mail_go_through_apprise_and_its_absence_is_one_sentence(
    notified: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    started = web.AppRunner(app)
    await started.setup()
    await web.TCPSite(started, "127.0.0.1", 0).start()
    file = tmp_path / "url"
    file.write_text(f"json://127.0.0.1:{started.addresses[0][1]}\n")
    chat = notified.model_copy(update={"targets": [Target(target="chat", kind="apprise", url_file=file)]})
    assert await runner.try_target(chat, "chat") is None
    await started.cleanup()
    assert got[0]["title"] == "FIRING test BTC-USD +5.00 bps"
    assert "buy kraken:BTC-USD at 100" in got[0]["message"]
    assert "apprise could not deliver it" in str(await runner.try_target(chat, "chat"))
    file.write_text("nonsense")
    with pytest.raises(TargetError, match="does not know the kind of url"):
        await runner.try_target(chat, "chat")
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(TargetError, match=r"pip install 'cexdex\[apprise\]'"):
        await runner.try_target(chat, "chat")


async def test_a_name_that_leads_to_a_metadata_address_is_refused_when_it_is_used(
    notified: Config, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    async def lead_astray(host: str, port: int, **_: Any) -> list[Any]:
        import socket

        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(loop, "getaddrinfo", lead_astray, raising=False)
    astray = notified.targets[0].model_copy(update={"url": "http://desk.example/hook"})
    error = await runner.try_target(notified.model_copy(update={"targets": [astray]}), "desk")
    assert error is not None
    assert "169.254.169.254 is a link-local" in error
