# SPDX-License-Identifier: MIT
"""The source whose URL an adapter is given, as the stage of a trial reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

from operatord.core import plans
from operatord.core.sources.adapters import URL
from operatord.core.sources.url import SourceUrl, parse_source, scheme_of
from operatord.streams.relay import Relay


class Source:
    """A source in some network, which only this machine may reach: a trial's network has no way out.

    A relay on this machine's address in that network passes connections on, as it does for sessions.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        """``env`` are the variables that were given for the check."""
        self.env: dict[str, str] = {}
        """What the stage is told in place of that, once it is open."""
        self._url = remote(env.get(URL, ""))
        self._relay: Relay | None = None

    async def open(self, host: str) -> None:
        """Have the source reached on an address of this machine, if there is one. Raises `OSError`."""
        if self._url is None or (target := await number(self._url)) is None:
            return  # the stage itself says what is wrong
        self._relay = Relay(target, self._url.port)
        self.env = {URL: self._url.at(*await self._relay.open(host, early=True))}

    async def close(self) -> None:
        """End the relay."""
        if self._relay is not None:
            await self._relay.close()


def remote(text: str) -> SourceUrl | None:
    """Return a URL that has a host; None for another one, and for what is none."""
    url = _parsed(text)
    return None if url is None or url.is_local else url


def local_source(env: Mapping[str, str]) -> plans.Source | None:
    """Return the file or device that a stage is to read, which it is given; None if it reads another source.

    A session's has to be allowed, since clients name it. Who checks an image has named it themselves.
    """
    url = _parsed(text := env.get(URL, ""))
    return plans.Source("check-stage", text, url.path) if url and url.is_local else None


def _parsed(text: str) -> SourceUrl | None:
    with contextlib.suppress(ValueError):
        return parse_source(text, [scheme_of(text)])
    return None


async def number(url: SourceUrl) -> str | None:
    """Return the address of a URL's host as a number; None if there is none."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        return str(found[0][4][0])
    return None
