"""Any web page open in the user's browser can reach 127.0.0.1: requests that come from one are refused before routing."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


def only_local(allowed_hosts: frozenset[str]) -> Middleware:
    hosts = _LOCAL | allowed_hosts

    @web.middleware
    async def refuse_foreign(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if foreign(
            request.headers.getall("Host", []),
            request.headers.getall("Origin", []),
            request.headers.get("Sec-Fetch-Site"),
            hosts,
        ):
            return web.Response(status=403, text="refused: this listener serves local programs only\n")
        return await handler(request)

    return refuse_foreign


def foreign(host: list[str], origin: list[str], fetch_site: str | None, hosts: frozenset[str]) -> bool:
    """Whether a page of another site asks, or a name that only an attacker's DNS points here."""
    if len(host) != 1 or _without_port(host[0]) not in hosts:
        return True
    if any(_without_port(value.partition("://")[2]) not in hosts for value in origin):
        return True
    return fetch_site in ("cross-site", "same-site")


def _without_port(authority: str) -> str:
    name, colon, port = authority.rpartition(":")
    return (name if colon and port.isdigit() else authority).lower()
