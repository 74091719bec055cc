# SPDX-License-Identifier: MIT
"""`GET /sessions/ID/stream.y4m`: a session's stream for players, as a consumer of its own at the location.

A player that pauses holds up what a consumer that pauses holds up there: TCP carries it. One whose system
does not answer any more is disconnected, as the stages do with theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from aiohttp import hdrs, web

from operatord.gateway.pictures import y4m
from operatord.gateway.pictures.cutter import Picture
from operatord.gateway.pictures.rendering import beside, drawn, require_grey
from operatord_protocol.stream import StreamError

from .asked import asked
from .finding import find
from .hub import HUB
from .pulse import Pulse
from .reading import CONSUME, LIVE, Reading, opened

TYPE = "video/x-yuv4mpeg"
POLICIES = {"": CONSUME, "live": LIVE}


async def play(request: web.Request) -> web.StreamResponse:
    """Send a player the stream to its end; one that stops reading is waited for, as at the location.

    Raises what finding it raises, and `StreamError` if it cannot be played.
    """
    query = asked(request, policy=tuple(POLICIES))
    location = await find(request, query.get("token"))
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: TYPE, hdrs.ACCEPT_RANGES: "none"})
    if request.method == hdrs.METH_HEAD:
        return response
    hub = request.app[HUB]
    with hub.playing():
        async with opened(location, hub.budget, POLICIES[query["policy"]]) as reading:
            require_grey(reading.hello)
            await response.prepare(request)
            async with Pulse(request.transport):
                await _send(request, response, reading)
    return response


async def _send(request: web.Request, response: web.StreamResponse, reading: Reading) -> None:
    """Send everything. A stream that is cut off is cut off for the player, too."""
    try:
        await response.write(y4m.first_line(reading.hello))
        async for picture in _pictures(reading):
            size = reading.hello.width * reading.hello.height
            pixels = await beside(partial(drawn, picture, reading.hello), size)
            await response.write(b"".join((y4m.frame_line(picture.header), pixels)))
        await response.write_eof()
    except (StreamError, OSError):
        if request.transport is not None:
            request.transport.abort()


async def _pictures(reading: Reading) -> AsyncIterator[Picture]:
    while True:
        for item in await reading.more():
            if not isinstance(item, Picture):
                return
            yield item
