# SPDX-License-Identifier: MIT
"""`GET /sessions/ID/stream.y4m`: a session's stream for players, as a consumer of its own at the location.

A player that pauses holds up what a consumer that pauses holds up there: TCP carries it. One whose system
does not answer any more is disconnected, as the stages do with theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from functools import partial

from aiohttp import hdrs, web

from operatord.gateway.pictures.cutter import Picture
from operatord.gateway.pictures.rendering import beside, for_players, require_known
from operatord.gateway.process.patience import must_stay
from operatord_protocol.errors import WireError
from operatord_protocol.pictures.players import first_line, frame_line
from operatord_protocol.stream import StreamError

from .asked import asked
from .finding import find, until_refused
from .first_of import first_of
from .hub import HUB
from .pulse import Pulse
from .reading import CONSUME, LIVE, Reading

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
    must_stay(request)
    hub = request.app[HUB]
    with hub.playing(location):
        async with hub.opener.opened(location, POLICIES[query["policy"]]) as reading:
            require_known(reading.hello)
            await response.prepare(request)
            async with Pulse(request.transport):
                await _played(request, response, _send(response, reading), query.get("token"))
    return response


async def _played(
    request: web.Request,
    response: web.StreamResponse,
    send: Coroutine[None, None, None],
    token: str | None,
) -> None:
    """Send everything; a player is cut off with its stream, and when it may not look any more."""
    try:
        await first_of(send, until_refused(request, token))
        await response.write_eof()
    except (StreamError, WireError, OSError):
        if request.transport is not None:
            request.transport.abort()


async def _send(response: web.StreamResponse, reading: Reading) -> None:
    await response.write(first_line(reading.hello))
    async for picture in _pictures(reading):
        work = partial(for_players, picture, reading.hello)
        pixels = await beside(work, len(picture.image))
        await response.write(b"".join((frame_line(picture.header), pixels)))


async def _pictures(reading: Reading) -> AsyncIterator[Picture]:
    while True:
        for item in await reading.more():
            if not isinstance(item, Picture):
                return
            yield item
