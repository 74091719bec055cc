# SPDX-License-Identifier: MIT
"""`POST /post/`: a start as the original system was asked for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from operatord_protocol.errors import InvalidRequest
from operatord_protocol.slips import not_a_start

from . import bodies
from .answers import answered
from .conversation import Conversation
from .process.patience import must_stay
from .upstream import UPSTREAM

METHOD = "session.start"


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.post("/post/", post)]


async def post(request: web.Request) -> web.StreamResponse:
    """Start a session, and answer when its stream is there."""
    body = await bodies.read(request)
    if "method" in body.value:
        raise InvalidRequest("this address only starts sessions; for a method, POST /api/v1/METHOD")
    if (wrong := not_a_start(body.value)) is not None:
        raise wrong
    body.check()
    must_stay(request)
    async with request.app[UPSTREAM].daemon(request) as daemon:
        return answered(await start(daemon, body))


async def start(daemon: Conversation, body: bodies.Body) -> bytes:
    """Return the session that is started. If this is cancelled, because the client has gone, so is the start,
    unless others may have asked for it by its key.
    """
    try:
        return await daemon.ask(METHOD, body.line)
    except asyncio.CancelledError:
        await daemon.undo_start(is_private=body.get("request_key") is None)
        raise
