# SPDX-License-Identifier: MIT
"""The application: every route, and what each request passes on its way there."""

from __future__ import annotations

import logging
from collections.abc import Collection

from aiohttp import hdrs, web

from operatord_protocol.checking import clip, suggestion
from operatord_protocol.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    WireError,
)
from operatord_protocol.methods import METHODS

from . import api, bodies, health, metrics, openapi, pages, seed, socket
from .answers import refused
from .bodies import NotJson, TooLarge
from .guard import GUARD, Guard, Handler, dress
from .process.patience import COUNTED
from .streams import routes as streams
from .upstream import UPSTREAM, Upstream

log = logging.getLogger(__name__)


CONTINUE = "100-continue"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
OF_BODIES: dict[type, int] = {NotJson: 415, TooLarge: 413}
"""The status of errors that the protocol itself does not have."""


def make_app(upstream: Upstream, hosts: Collection[str] = ()) -> web.Application:
    """Return the application; it is connected to nothing yet.

    ``hosts`` are names of it, besides those of loopback and the addresses that it is reached at.
    """
    app = web.Application(middlewares=[COUNTED, _errors, _guard])
    app[UPSTREAM] = upstream
    app[GUARD] = Guard(hosts)
    app[bodies.BODY_BYTES] = bodies.default_bytes()
    app[pages.FILES] = pages.load()
    app.on_response_prepare.append(dress)
    rooms = (seed, health, metrics, socket)
    routes = [route for room in rooms for route in room.routes()]
    routes += streams.routes(app)
    routes += [route for room in (openapi, api, pages) for route in room.routes()]
    for route in routes:
        route.kwargs["expect_handler"] = _expect
    app.add_routes(routes)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Ask for a body whose sender waits for that; refuse what else a request expects (RFC 9110, 10.1.1).

    aiohttp calls this before all else, and would answer the latter in its own words.
    """
    try:
        request.app[GUARD].check(request)
    except WireError as exc:
        return refused(exc)
    if request.headers[hdrs.EXPECT].casefold() != CONTINUE:
        return refused(InvalidRequest(f"a request can expect {CONTINUE} and nothing else"), 417)
    await request.writer.write(GO_ON)
    request.writer.output_size = 0  # aiohttp's count of the answer, which has not begun
    return None


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in JSON."""
    try:
        return await handler(request)
    except WireError as exc:
        return refused(exc, OF_BODIES.get(type(exc)))
    except web.HTTPException as exc:
        return _of_http(request, exc)
    except ConnectionError:
        return refused(InvalidRequest("the client has gone"))  # which nobody reads
    except Exception:
        log.exception("%s failed", request.path)
        return refused(InternalError("an internal error of the gateway; its log says more"))


def _of_http(request: web.Request, exc: web.HTTPException) -> web.StreamResponse:
    """Return what aiohttp refuses by itself as an error of ours."""
    if isinstance(exc, web.HTTPMethodNotAllowed):
        known = ", ".join(sorted(exc.allowed_methods))
        why = f"{request.path} is asked for with {known}, not with {clip(request.method)}"
        response = refused(InvalidRequest(why), 405)
        response.headers["Allow"] = known
        return response
    if isinstance(exc, web.HTTPNotFound):
        return refused(NotFound(f"there is nothing at {clip(request.raw_path)}{_hint(request)}"))
    return refused(InvalidRequest(exc.reason or "no such request"), exc.status)


def _hint(request: web.Request) -> str:
    if request.path.rstrip("/") == api.ROOT:
        openapi = f"GET {api.ROOT}/openapi.json"
        return f"; methods are asked for with POST {api.ROOT}/METHOD, and {openapi} describes them"
    _, is_below, method = request.path.casefold().partition(api.ROOT + "/")
    if is_below:
        return suggestion(method.strip("/"), METHODS)
    return suggestion(request.path, sorted(_paths(request.app)))


def _paths(app: web.Application) -> set[str]:
    return {each.canonical for each in app.router.resources()}


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Look at each request before anything is done for it."""
    request.app[GUARD].check(request)
    return await handler(request)
