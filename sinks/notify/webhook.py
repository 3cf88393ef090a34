"""Webhooks as standardwebhooks.com has them: signed, with an id that a receiver can drop repeats by."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
import orjson
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from cexdex.records.alerts import Alert
from sinks.notify.message import body, title, webhook_id

RETRY_AFTER_S = (5.0, 20.0, 60.0, 120.0)
"""Pauses after the first, second… failed attempt; an alert is of no use after five minutes."""
METADATA = frozenset({"metadata.google.internal", "metadata", "instance-data"})
_METADATA_V6 = ipaddress.ip_address("fd00:ec2::254")


class TargetError(Exception):
    """The target cannot be used as it is configured; one sentence."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST to perform; no redirect is followed."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means: delivered, or when to try again (None: never), and why."""

    delivered: bool
    retry_after_s: float | None = None
    error: str | None = None
    disabled: bool = False


def request(alert: Alert, url: str, secrets: Sequence[str], now_us: int) -> Request:
    """The signed request that tells of an alert. Several secrets sign side by side, so that one can be replaced.

    Raises TargetError for a secret that is none or an address that is refused.
    """
    content = {
        "type": f"alert.{alert.state}",
        "timestamp": datetime.fromtimestamp(alert.received_at / 1e6, UTC).isoformat(),
        "data": {**msgspec.to_builtins(alert), "title": title(alert), "text": body(alert)},
    }
    return signed(orjson.dumps(content), url, webhook_id(alert), secrets, now_us)


def signed(content: bytes, url: str, id_: str, secrets: Sequence[str], now_us: int) -> Request:
    """A POST of `content` with the three headers of the standard. Raises TargetError."""
    if (refused := refused_url(url)) is not None:
        raise TargetError(refused)
    if not secrets:
        raise TargetError("a webhook needs a signing secret (whsec_…); secret_env or secret_file names it")
    seconds = now_us // 1_000_000
    at = datetime.fromtimestamp(seconds, UTC)
    try:
        signatures = [Webhook(secret).sign(id_, at, content.decode()) for secret in secrets]
    except (ValueError, RuntimeError, EmptyWebhookSecretError) as error:
        raise TargetError("a signing secret is not base64 after whsec_") from error
    return Request(
        url=url,
        headers={
            "content-type": "application/json",
            "user-agent": "cexdex",
            "webhook-id": id_,
            "webhook-timestamp": str(seconds),
            "webhook-signature": " ".join(signatures),
        },
        body=content,
    )


def verdict(status: int, headers: Mapping[str, str], attempt: int) -> Verdict:
    """What an HTTP status says of attempt number `attempt` (from 1)."""
    if 200 <= status < 300:
        return Verdict(True)
    if status == 410:
        return Verdict(False, None, "410: the receiver wants no more", disabled=True)
    pause = pause_after(attempt)
    if pause is not None and status in (429, 502, 503, 504):
        pause = max(pause, _asked_for(headers))
    return Verdict(False, pause, f"the receiver answered {status}")


def pause_after(attempt: int) -> float | None:
    """How long to wait after failed attempt number `attempt`; None: that was the last."""
    return RETRY_AFTER_S[attempt - 1] if attempt <= len(RETRY_AFTER_S) else None


def refused_url(url: str) -> str | None:
    """Why nothing is sent to this URL, where its text alone tells; None when it may be."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "a webhook's url begins with https:// (or http:// inside your own network)"
    if parts.username or parts.password:
        return "a webhook's url may hold no user or password; its signature is the proof"
    if parts.hostname.rstrip(".").lower() in METADATA:
        return f"{parts.hostname} is a cloud's metadata service"
    try:
        return refused_address(parts.hostname)
    except ValueError:
        return None  # A name: its addresses are looked at when it is resolved.


def refused_address(address: str) -> str | None:
    """Why nothing is sent to this address: machines on the same link and a cloud's metadata are nobody's webhook.

    Raises ValueError when it is no address.
    """
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip == _METADATA_V6:
        return f"{ip} is a link-local, multicast or metadata address"
    return None


def _asked_for(headers: Mapping[str, str]) -> float:
    try:
        return min(max(float(headers.get("Retry-After", "0")), 0.0), 300.0)
    except ValueError:
        return 0.0
