# SPDX-License-Identifier: MIT
"""Connections to the daemon, each for one client of HTTP and with the rights of that client and no others.

The gateway has no rights of its own: it says nothing that the client could not have said on the daemon's
socket. To the daemon that has started it, it says from where the client comes (`proxied`), so that the daemon
counts, backs off and writes down by the client's own address.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from msgspec import UNSET

from operatord_client.address import Address
from operatord_client.async_lines import async_open_lines
from operatord_client.errors import DaemonUnreachable
from operatord_protocol.answers import decode_result
from operatord_protocol.codec import encode
from operatord_protocol.errors import DaemonUnavailable, Unauthorized
from operatord_protocol.messages import Location, Login, Session

from .conversation import Conversation
from .process.passage import Passage

CONNECT_SECONDS = 5.0
BEARER = "bearer "
UNKNOWN = "log in first: send a token, as Authorization: Bearer TOKEN"
NO_TOKENS = (
    "the daemon has no tokens, so nobody can log in from another machine: set auth.tokens there, or let "
    "this gateway listen on 127.0.0.1"
)


class Means(NamedTuple):
    """How the daemon is reached."""

    way: Address | Passage
    """The address of any daemon; or the way to the one that has started this process."""
    token_needed: bool = False
    """Nothing is passed on without a token, whatever the daemon asks for."""


class Upstream:
    """Connects to one daemon."""

    def __init__(self, means: Means) -> None:
        """Connect to it as ``means`` says, once somebody asks."""
        self._means = means
        self.ready: bool | None = None
        """Whether the daemon could start sessions, as it says itself; None: it has not said."""

    @property
    def token_needed(self) -> bool:
        """Whether nothing is passed on without a token."""
        return self._means.token_needed

    @property
    def address(self) -> Address | None:
        """The daemon's, whose certificate its streams show as well; None for one that has started us."""
        return None if isinstance(self._means.way, Passage) else self._means.way

    @asynccontextmanager
    async def daemon(
        self, request: web.Request, token: str | None = None
    ) -> AsyncIterator[Conversation]:
        """Yield a connection to the daemon as whoever sent ``request``, and close it.

        ``token`` logs in; without it, the one of the header ``Authorization: Bearer`` does, if there is one.
        Raises `DaemonUnavailable`, and what `auth.login` is refused with.
        """
        token = token or bearer(request)
        if token is None and self._means.token_needed:
            raise Unauthorized(UNKNOWN)
        reader, writer = await self.lines(request)
        conversation = Conversation(reader, writer)
        try:
            if token is not None:
                await self._log_in(conversation, token)
            yield conversation
        except Unauthorized as exc:
            if token is None:  # the daemon's words are for its own socket
                raise Unauthorized(UNKNOWN) from exc
            raise
        finally:
            await conversation.close()

    async def _log_in(self, daemon: Conversation, token: str) -> None:
        said = await daemon.ask("auth.login", encode({"token": token}))
        if self.token_needed:
            require_login(said)

    async def location(self, daemon: Conversation, session: Session) -> Location | None:
        """Return where this process finds the stream of a session that runs; None if who asks may not see it.

        The daemon that has started this process says where the stage itself is: what the session's requester
        was told may lead around by other machines. Raises what `Conversation.ask` raises.
        """
        if not isinstance(session.location, Location):
            return None
        if not isinstance(self._means.way, Passage):
            return session.location
        params = encode({"session_id": session.session_id})
        return decode_result(await daemon.ask("gateway.location", params), Location)

    async def lines(
        self, request: web.Request
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection for whoever sent ``request``; nobody has logged in on it.

        Raises `DaemonUnavailable`.
        """
        way = self._means.way
        if isinstance(way, Passage):
            return await way.connect(proxied(request))
        try:
            return await async_open_lines(way, connect_timeout=CONNECT_SECONDS)
        except DaemonUnreachable as exc:
            raise DaemonUnavailable("the daemon does not answer just now; try again") from exc


UPSTREAM: web.AppKey[Upstream] = web.AppKey("upstream", Upstream)


def require_login(said: bytes) -> None:
    """Look at the answer to a login that the gateway wants: where there are no tokens, anything is one.

    Raises `Unauthorized`.
    """
    if decode_result(said, Login).note is not UNSET:
        raise Unauthorized(NO_TOKENS)


def bearer(request: web.Request) -> str | None:
    """Return the token of the header ``Authorization: Bearer TOKEN``. Raises `Unauthorized`."""
    if (said := request.headers.get("Authorization")) is None:
        return None
    if said[: len(BEARER)].lower() != BEARER or not (token := said[len(BEARER) :].strip()):
        raise Unauthorized("tokens are sent as Authorization: Bearer TOKEN")
    return token


def proxied(request: web.Request) -> bytes:
    """Return the line of the PROXY protocol, version 1, for whoever sent ``request``.

    It says from which address the client has connected to which one of this machine. Raises
    `DaemonUnavailable` for a client that has gone.
    """
    transport = request.transport
    peer, name = (transport and transport.get_extra_info(each) for each in ("peername", "sockname"))
    if not isinstance(peer, tuple) or not isinstance(name, tuple):
        raise DaemonUnavailable("nobody is there any more")
    (source, port), (place, its_port) = _plain(peer), _plain(name)
    return f"PROXY TCP{source.version} {source} {place} {port} {its_port}\r\n".encode()


def _plain(name: tuple[str, int]) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Return an address and a port: one of IPv4 as such if IPv6 has it mapped, and none with a scope."""
    address = ipaddress.ip_address(name[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, name[1]
