# SPDX-License-Identifier: MIT
"""`GET /sessions/ID/snapshot.png`: one picture of a session, which costs nobody a frame.

Where somebody looks, it is what the viewers were shown last. Else it is taken as a guest of the location:
whoever is silent there is sent frames, and if it says soon that it was only a check, the next one is sent the
same again (PROTOCOL, section 7). So a session that nobody has read yet shows its first frame, has not begun,
and does not count as read. Where others read, a guest sees the next frame.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from aiohttp import hdrs, web

from operatord.gateway.pictures import png
from operatord.gateway.pictures.cutter import Picture
from operatord.gateway.pictures.rendering import drawn, require_known
from operatord_protocol.errors import Conflict
from operatord_protocol.messages import Location
from operatord_protocol.stream import Hello, StreamError

from .asked import asked
from .finding import find
from .hub import Hub
from .reading import WATCH, Opener, Reading

LOOK_SECONDS = 0.1
"""Seconds as a silent guest: with 0.2 it would be a consumer where no frames are kept for the next one."""
WATCH_SECONDS = 1.0
"""Seconds as a spectator after that. Then it begins again, as a stage that was busy may have sent the guest
nothing."""
PATIENCE = 5.0
"""Seconds to wait for a frame, where others read slowly."""
TYPE = "image/png"
NOTHING_YET = (
    "no picture has come: nobody reads this stream yet and it has none to show before, "
    "or whoever reads it pauses"
)


class Look(NamedTuple):
    """A picture, and the hello of its stream."""

    hello: Hello
    picture: Picture


class Snapshots:
    """Takes pictures: one at a time of each location, and writes two at a time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._writing = asyncio.Semaphore(2)
        self._looking: dict[str, asyncio.Task[Look]] = {}

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Return a picture. Raises what finding it raises, `Conflict` if there is none, `StreamError`."""
        query = asked(request, mask=("1", "0"))
        location = await find(request, query.get("token"))
        if request.method == hdrs.METH_HEAD:
            return web.Response(content_type=TYPE)
        hello, picture = self._hub.newest(location) or await self._look(location)
        require_known(hello)
        async with self._writing:
            body = await asyncio.to_thread(_png, hello, picture, mask=query["mask"] == "1")
        return web.Response(body=body, content_type=TYPE)

    async def _look(self, location: Location) -> Look:
        """Look, together with whoever asks meanwhile."""
        task = self._looking.get(location.url)
        if task is None:
            task = self._looking[location.url] = asyncio.create_task(
                look(self._hub.opener, location)
            )
            task.add_done_callback(lambda done: self._looked(location, done))
        return await asyncio.shield(task)

    def _looked(self, location: Location, task: asyncio.Task[Look]) -> None:
        del self._looking[location.url]
        if not task.cancelled():
            task.exception()  # which those who ask have been told, if any is still there

    async def close(self) -> None:
        """Look no more."""
        for task in tuple(self._looking.values()):
            task.cancel()
            with suppress(asyncio.CancelledError, StreamError, Conflict):
                await task


def _png(hello: Hello, picture: Picture, *, mask: bool) -> bytes:
    pixels = drawn(picture, hello) if mask else picture.image
    return png.written(pixels, hello.width, hello.height, hello.format)


async def look(opener: Opener, location: Location) -> Look:
    """Return a frame of a location, as a guest. Raises `Conflict` if none is to be had, `StreamError`."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        async with opener.opened(location) as reading:
            picture = await _glimpse(reading, LOOK_SECONDS)
            if picture is None and reading.knows_watch:
                reading.say(WATCH)
                picture = await _glimpse(reading, WATCH_SECONDS)
            await reading.leave_as_check()
        if picture is not None:
            return Look(reading.hello, picture)
        if asyncio.get_running_loop().time() > deadline:
            raise Conflict(NOTHING_YET)


async def _glimpse(reading: Reading, seconds: float) -> Picture | None:
    """Return the first frame that comes within so many seconds; None if none does. Raises `StreamError`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                for item in await reading.more():
                    return item if isinstance(item, Picture) else None
    return None
