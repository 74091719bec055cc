# SPDX-License-Identifier: MIT
"""The application: every route, and what each request passes on its way there."""

from __future__ import annotations

import logging
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Middleware

from operatord_protocol.checking import clip, suggestion
from operatord_protocol.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    WireError,
)

from . import api, health, metrics, pages, socket
from .answers import refused
from .bodies import NotJson, TooLarge
from .guard import Guard, Handler, dress
from .streams import routes as streams
from .upstream import UPSTREAM, Upstream

log = logging.getLogger(__name__)

BODY_BYTES = 64 * 1024
"""Longest body."""


class Parts(NamedTuple):
    """What an application is made of."""

    upstream: Upstream
    hosts: tuple[str, ...] = ()
    """Names of this gateway, besides those of loopback and the addresses that it is reached at."""
    body_bytes: int = BODY_BYTES


def make_app(parts: Parts) -> web.Application:
    """Return the application; it is connected to nothing yet."""
    app = web.Application(
        middlewares=[_errors, _guarded(Guard(parts.hosts))], client_max_size=parts.body_bytes
    )
    app[UPSTREAM] = parts.upstream
    app[pages.FILES] = pages.load()
    app.on_response_prepare.append(dress)
    app.add_routes(health.routes())
    app.add_routes(metrics.routes())
    app.add_routes(socket.routes())
    streams.add_to(app)
    app.add_routes(api.routes())
    app.add_routes(pages.routes())
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in JSON."""
    try:
        return await handler(request)
    except NotJson as exc:
        return refused(exc, 415)
    except TooLarge as exc:
        return refused(exc, 413)
    except WireError as exc:
        return refused(exc)
    except web.HTTPException as exc:
        return _of_http(request, exc)
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
        known_paths = sorted(_paths(request.app))
        near = suggestion(request.path, known_paths)
        return refused(NotFound(f"there is nothing at {clip(request.path)}{near}"))
    return refused(InvalidRequest(exc.reason or "no such request"), exc.status)


def _paths(app: web.Application) -> set[str]:
    return {each.canonical for each in app.router.resources()}


def _guarded(guard: Guard) -> Middleware:
    @web.middleware
    async def look(request: web.Request, handler: Handler) -> web.StreamResponse:
        guard.check(request)
        return await handler(request)

    return look
