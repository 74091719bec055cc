# SPDX-License-Identifier: MIT
"""`POST /api/v1/METHOD`: every method of the protocol; its params are the body, its result is the answer."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from operatord_protocol.checking import clip, suggestion
from operatord_protocol.errors import InvalidRequest, MethodNotFound
from operatord_protocol.methods import METHODS

from . import bodies, seed
from .answers import answered
from .process.patience import must_stay
from .upstream import UPSTREAM

ROOT = "/api/v1"
OF_A_CONNECTION = frozenset(("events.subscribe", "events.unsubscribe", "request.cancel"))
"""Methods about a connection, which a request of HTTP is none of."""

PLACE = ROOT + r"/{method:(?!(?:openapi\.json|socket)$)[^/]+}"
"""Where methods are; what else is there is no method."""


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.post(PLACE, call)]


async def call(request: web.Request) -> web.StreamResponse:
    """Pass a request on to the daemon, and its result back."""
    method = request.match_info["method"]
    if method not in METHODS:
        raise MethodNotFound(f"there is no method {clip(method)!r}{suggestion(method, METHODS)}")
    if method in OF_A_CONNECTION:
        raise InvalidRequest(f"{method} needs a lasting connection: {bodies.SOCKET}")
    body = await bodies.read(request)
    body.check()
    if method == seed.METHOD:
        must_stay(request)
    async with request.app[UPSTREAM].daemon(request) as daemon:
        if method == seed.METHOD:
            return answered(await seed.start(daemon, body))
        return answered(await daemon.ask(method, body.line))
