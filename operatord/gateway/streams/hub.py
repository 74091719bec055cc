# SPDX-License-Identifier: MIT
"""Who looks at which stream: a `Source` for all viewers of one, made for the first and gone with the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from operatord.gateway.pictures.cutter import Picture
from operatord_protocol.errors import TooManyRequests
from operatord_protocol.messages import Location
from operatord_protocol.stream import Hello

from .reading import Opener
from .source import Source

VIEWERS = 64
"""Viewers of one stream, and players of it besides."""
ALL_VIEWERS = 512
"""Viewers of all streams."""
RETRY_AFTER = 5
GONE = "the gateway is shutting down"


class Hub:
    """The sources by where they read, and the players."""

    def __init__(self, opener: Opener) -> None:
        """Nobody looks yet."""
        self.opener = opener
        self.ending = False
        """The gateway ends, and what is looked at is over."""
        self._sources: dict[str, Source] = {}
        self._players: dict[asyncio.Task[object], str] = {}

    @asynccontextmanager
    async def watched(self, location: Location, *, watch: bool) -> AsyncIterator[Source]:
        """Yield the source of a location, shared with all who look at it. Raises `TooManyRequests`."""
        source = self._source(location)
        source.join(watch=watch)
        try:
            yield source
        finally:
            source.leave(watch=watch)
            if not source.viewers:
                await self._close(source)

    @contextmanager
    def playing(self, location: Location) -> Iterator[None]:
        """Count the current task as a player: it is cancelled when the gateway ends.

        Raises `TooManyRequests`.
        """
        if list(self._players.values()).count(location.url) >= VIEWERS:
            raise TooManyRequests(
                f"this stream has {VIEWERS} players already", retry_after=RETRY_AFTER
            )
        task = asyncio.current_task()
        assert task is not None
        self._players[task] = location.url
        try:
            yield
        finally:
            del self._players[task]

    def newest(self, location: Location) -> tuple[Hello, Picture] | None:
        """Return what the viewers of a location were shown last, with its hello; None without any."""
        source = self._sources.get(location.url)
        return None if source is None else source.shown

    async def close(self) -> None:
        """Tell all who look that the gateway ends."""
        self.ending = True
        for player in tuple(self._players):
            player.cancel()
        for source in tuple(self._sources.values()):
            await source.close(GONE)

    def _source(self, location: Location) -> Source:
        source = self._sources.get(location.url)
        if source is not None and source.viewers >= VIEWERS:
            raise TooManyRequests(
                f"{VIEWERS} clients look at this stream already", retry_after=RETRY_AFTER
            )
        if sum(each.viewers for each in self._sources.values()) >= ALL_VIEWERS:
            raise TooManyRequests(
                f"{ALL_VIEWERS} clients look at streams already", retry_after=RETRY_AFTER
            )
        if source is None or source.over:
            source = self._sources[location.url] = Source(location, self.opener)
        return source

    async def _close(self, source: Source) -> None:
        if self._sources.get(source.location.url) is source:
            del self._sources[source.location.url]
        await source.close()


HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)
