# SPDX-License-Identifier: MIT
"""Refuses what no client of ours sends: a page elsewhere that has a browser call on this machine.

Such a page can send requests, but not choose their Host and Origin, and cannot say that it sends JSON without
being asked first, which is never allowed. A name of its own that leads here (DNS rebinding) is in the Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Collection

from aiohttp import hdrs, web

from operatord_protocol.checking import clip
from operatord_protocol.errors import Forbidden, InvalidRequest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[\w.-]+))(?::\d{0,5})?", re.ASCII)
"""What the header Host has (RFC 9112, section 3.2): a name or an address, and maybe a port."""
SAFE = frozenset(("GET", "HEAD"))
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "operatord",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer says, unless it says something of its own."""


class Guard:
    """Looks at each request before anybody else does."""

    def __init__(self, hosts: Collection[str]) -> None:
        """Know ``hosts``, see `know`."""
        self.know(hosts)

    def know(self, hosts: Collection[str]) -> None:
        """Be known by these names, besides those of loopback and the addresses where requests come in."""
        self._hosts = {each.casefold() for each in hosts}

    def check(self, request: web.Request) -> None:
        """Look at where a request goes and where it comes from. Raises `InvalidRequest`, `Forbidden`."""
        said = request.headers.getall(hdrs.HOST, [])
        if len(said) != 1 or (host := _host(said[0])) is None:
            raise InvalidRequest("a request has one header Host")
        if not self._is_ours(host, request):
            raise Forbidden(
                f"{clip(host)} is not a name of this gateway: use an address of its machine, or add the "
                "name to http.hosts"
            )
        self._check_origin(request, said[0])

    def _is_ours(self, host: str, request: web.Request) -> bool:
        if host in self._hosts or host == "localhost" or _is_loopback(host):
            return True
        place = request.transport and request.transport.get_extra_info("sockname")
        return isinstance(place, tuple) and _same_address(place[0], host)

    def _check_origin(self, request: web.Request, host: str) -> None:
        if request.method in SAFE and hdrs.UPGRADE not in request.headers:
            return
        for origin in request.headers.getall(hdrs.ORIGIN, []):
            if _authority(origin) != host.casefold():
                raise Forbidden(
                    "a page of another origin sent this: only pages of this gateway may "
                    "send requests"
                )


GUARD: web.AppKey[Guard] = web.AppKey("guard", Guard)


def _host(text: str) -> str | None:
    """Return the name or address of a Host header, without its port; None if it is none."""
    found = HOST.fullmatch(text)
    return (found["address"] or found["name"]).casefold() if found else None


def _authority(origin: str) -> str | None:
    scheme, colon, rest = origin.partition("://")
    return rest.casefold() if colon and scheme in ("http", "https") else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same_address(here: str, host: str) -> bool:
    try:
        one, other = (ipaddress.ip_address(each.partition("%")[0]) for each in (here, host))
    except ValueError:
        return False
    return other in (one, getattr(one, "ipv4_mapped", None))


async def dress(_: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer says."""
    for name, value in HEADERS.items():
        if name == hdrs.SERVER or name not in response.headers:
            response.headers[name] = value
