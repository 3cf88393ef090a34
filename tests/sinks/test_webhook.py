"""Signatures as the standard has them, and what an answer means."""

from __future__ import annotations

import pytest
from standardwebhooks.webhooks import Webhook

from sinks.notify.message import sample
from sinks.notify.webhook import (
    RETRY_AFTER_S,
    TargetError,
    refused_address,
    refused_url,
    request,
    signed,
    verdict,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
URL = "https://desk.example/hook"


def test_the_vector_of_the_standard() -> None:
    made = signed(
        b'{"test": 2432232314}', URL, "msg_p5jXN8AQM9LWM0D4loKWxJek", [SECRET], 1_614_265_330_000_000
    )
    assert made.headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert made.headers["webhook-timestamp"] == "1614265330"
    assert made.headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_two_secrets_sign_side_by_side_while_one_is_replaced(secret: str) -> None:
    import time

    made = request(sample(1), URL, [SECRET, OTHER], time.time_ns() // 1000)
    content = Webhook(secret).verify(made.body, made.headers)
    assert content["type"] == "alert.firing"
    assert content["data"]["rule"] == "test"


def test_every_attempt_has_the_same_id_and_another_state_another() -> None:
    first, second = (request(sample(1), URL, [SECRET], now).headers["webhook-id"] for now in (5, 50_000_000))
    assert first == second
    assert request(sample(2), URL, [SECRET], 5).headers["webhook-id"] != first


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0/",
        "http://metadata.google.internal/",
        "ftp://desk.example/",
        "https://user:password@desk.example/",
        "file:///etc/passwd",
    ],
)
def test_some_addresses_are_nobodys_webhook(url: str) -> None:
    assert refused_url(url)
    with pytest.raises(TargetError):
        request(sample(1), url, [SECRET], 1)


def test_a_machine_of_ones_own_network_is_fine() -> None:
    assert refused_url("http://10.1.2.3:8000/hook") is None
    assert refused_address("127.0.0.1") is None


@pytest.mark.parametrize("secrets", [[], ["whsec_"], ["whsec_not base64!"]])
def test_a_missing_or_broken_secret_is_named_and_not_shown(secrets: list[str]) -> None:
    with pytest.raises(TargetError) as error:
        request(sample(1), URL, secrets, 1)
    assert "secret" in str(error.value)
    assert "not base64!" not in str(error.value)


def test_a_failed_attempt_is_made_again_and_at_last_given_up() -> None:
    pauses = [verdict(500, {}, attempt).retry_after_s for attempt in range(1, 6)]
    assert pauses == [*RETRY_AFTER_S, None]


def test_a_receiver_may_ask_for_more_time_or_for_silence() -> None:
    assert verdict(429, {"Retry-After": "60"}, 1).retry_after_s == 60
    assert verdict(503, {"Retry-After": "tomorrow"}, 1).retry_after_s == 5
    assert verdict(410, {}, 1).disabled
    assert verdict(204, {}, 1).delivered
    assert not verdict(302, {}, 1).delivered
