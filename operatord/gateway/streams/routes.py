# SPDX-License-Identifier: MIT
"""The routes of this package, and what they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from operatord.gateway.upstream import UPSTREAM
from operatord_protocol.stream import StreamError

from .errors import StreamBroken
from .hub import HUB, Hub
from .players import play
from .reading import Opener
from .snapshot import Snapshots
from .viewer import view

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SESSION = "/sessions/{session_id}"


def routes(app: web.Application) -> list[web.RouteDef]:
    """Return the routes of pictures, which an application is to serve."""
    hub = app[HUB] = Hub(Opener(app[UPSTREAM].address))
    snapshots = Snapshots(hub)

    async def end(_: web.Application) -> None:
        await hub.close()
        await snapshots.close()

    app.on_shutdown.append(end)
    return [
        web.get(SESSION + "/stream", view, allow_head=False),
        web.get(SESSION + "/stream.y4m", _told(play)),
        web.get(SESSION + "/snapshot.png", _told(snapshots.take)),
    ]


def _told(handler: Handler) -> Handler:
    """Return a handler that tells of a stream that cannot be read as of any other error."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except StreamError as exc:
            raise StreamBroken(str(exc)) from exc

    return handle
