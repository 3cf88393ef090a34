"""Who may knock: every local HTTP listener is a target of any web page that is open in the user's browser.

A page elsewhere reaches 127.0.0.1 without asking (no preflight for a simple POST), or under a name of its own that it
points here. A browser tells on it by Host, Origin and Sec-Fetch-Site; anything else on this machine is no browser.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def refusal(
    headers: Mapping[str, str], *, hosts: Collection[str] = (), origins: Collection[str] = ()
) -> str | None:
    """Why a request is refused, in one sentence; None when it may pass.

    headers: the request's, looked up case-insensitively by the mapping; hosts, origins: those allowed beside the
    local ones. An Origin of `null` is refused like any other that is not listed.
    """
    host = headers.get("Host", "").strip().lower()
    name = (
        host[: host.index("]") + 1]
        if host.startswith("[") and "]" in host
        else host.rpartition(":")[0] or host
    )
    if name not in LOCAL_HOSTS and name not in hosts and host not in hosts:
        return "this address is not served under that name"
    if (origin := headers.get("Origin")) is not None and origin not in origins:
        return "requests from web pages of other origins are refused"
    if headers.get("Sec-Fetch-Site", "none").strip().lower() in ("cross-site", "same-site"):
        return "requests from web pages of other sites are refused"
    return None


def doorkeeper(*, hosts: Collection[str] = (), origins: Collection[str] = ()) -> Middleware:
    """The aiohttp middleware that answers 403 to what `refusal` names."""

    @web.middleware
    async def keep(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (reason := refusal(request.headers, hosts=hosts, origins=origins)) is not None:
            return web.Response(status=403, text=reason + "\n")
        return await handler(request)

    return keep
