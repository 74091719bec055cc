# SPDX-License-Identifier: MIT
"""`GET /healthz`: this process serves. `GET /readyz`: the daemon answers as well. Nobody has to log in."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from operatord_protocol.errors import DaemonUnavailable

from .conversation import Conversation
from .upstream import UPSTREAM


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get("/healthz", healthy), web.get("/readyz", ready)]


async def healthy(_: web.Request) -> web.StreamResponse:
    """Say that this process serves."""
    return web.json_response({"healthy": True})


async def ready(request: web.Request) -> web.StreamResponse:
    """Say whether the daemon answers."""
    try:
        conversation = Conversation(*await request.app[UPSTREAM].lines(request))
        try:
            await conversation.ask("system.ping")
        finally:
            await conversation.close()
    except DaemonUnavailable:
        return web.json_response({"ready": False}, status=503)
    return web.json_response({"ready": True})
