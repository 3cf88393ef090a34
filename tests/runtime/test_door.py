"""Who may knock at a local listener."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from cexdex.runtime.door import refusal
from cexdex.runtime.metrics import Monitor, PortTakenError


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9100", "[::1]:9100", "LOCALHOST:1"])
def test_local_names_pass(host: str) -> None:
    assert refusal({"Host": host}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example:9100"},
        {"Host": ""},
        {},
        {"Host": "127.0.0.1.attacker.example"},
        {"Host": "127.0.0.1", "Origin": "https://attacker.example"},
        {"Host": "127.0.0.1", "Origin": "null"},
        {"Host": "127.0.0.1", "Sec-Fetch-Site": "cross-site"},
        {"Host": "127.0.0.1", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_others_do_not(headers: dict[str, str]) -> None:
    assert refusal(headers)


def test_what_is_configured_passes() -> None:
    headers = {"Host": "prometheus.lan", "Origin": "https://desk.lan", "Sec-Fetch-Site": "same-origin"}
    assert refusal(headers, hosts=["prometheus.lan"], origins=["https://desk.lan"]) is None


@pytest.fixture
async def monitor() -> AsyncIterator[Monitor]:
    monitor = Monitor("test", port=0)
    await monitor.start()
    yield monitor
    await monitor.stop()


async def test_metrics_and_health_are_served_to_this_machine_alone(monitor: Monitor) -> None:
    url = f"http://127.0.0.1:{monitor.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(url + "/metrics") as answer:
            assert 'cexdex_healthy{stage="test"} 1.0' in await answer.text()
        monitor.problem("kafka", "Kafka does not answer")
        async with session.get(url + "/health") as answer:
            assert answer.status == 503
            assert (await answer.json())["problems"] == {"kafka": "Kafka does not answer"}
        monitor.well("kafka")
        async with session.get(url + "/health") as answer:
            assert answer.status == 200
        for path in ("/metrics", "/nowhere"):
            async with session.get(url + path, headers={"Host": "attacker.example"}) as answer:
                assert answer.status == 403


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port}"):
            await Monitor("test", port=port).start()
