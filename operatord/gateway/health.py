# SPDX-License-Identifier: MIT
"""`GET /healthz`: this process serves. `GET /readyz`: the daemon answers as well. Nobody has to log in."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from operatord_protocol.answers import decode_result
from operatord_protocol.errors import DaemonUnavailable, Unauthorized
from operatord_protocol.messages import Status

from .conversation import Conversation
from .upstream import UPSTREAM


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get("/healthz", healthy), web.get("/readyz", ready)]


async def healthy(_: web.Request) -> web.StreamResponse:
    """Say that this process serves."""
    return web.json_response({"healthy": True})


async def ready(request: web.Request) -> web.StreamResponse:
    """Say whether the daemon answers, and its engine is up, if that is known without a login."""
    upstream = request.app[UPSTREAM]
    try:
        conversation = Conversation(*await upstream.lines(request))
        try:
            await conversation.ask("system.ping")
            is_ready = (
                await _engine_is_up(conversation) if upstream.ready is None else upstream.ready
            )
        finally:
            await conversation.close()
    except DaemonUnavailable:
        is_ready = False
    return web.json_response({"ready": is_ready}, status=200 if is_ready else 503)


async def _engine_is_up(daemon: Conversation) -> bool:
    try:
        status = decode_result(await daemon.ask("system.status"), Status)
    except Unauthorized:
        return True
    return bool(status.engine["state"] == "up")
