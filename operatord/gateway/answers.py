# SPDX-License-Identifier: MIT
"""What HTTP answers: results and errors as JSON, and the status of each error."""

from __future__ import annotations

from aiohttp import web

from operatord_client.address import DEFAULT_PORT
from operatord_protocol.codec import encode
from operatord_protocol.errors import WireError

STATUS = {
    "parse_error": 400,
    "invalid_request": 400,
    "invalid_params": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_found": 404,
    "conflict": 409,
    "cancelled": 409,
    "never_fits": 422,
    "too_many_requests": 429,
    "internal_error": 500,
    "image_missing": 500,
    "start_failed": 500,
    "probe_unreachable": 502,
    "no_capacity": 503,
    "queue_full": 503,
    "draining": 503,
    "engine_unavailable": 503,
    "daemon_unavailable": 503,
    "deadline_exceeded": 504,
}
"""By the type of the error. One that is not here is 500."""
NOT_HTTP = "this is not an HTTP/1.1 request"
LINES = (
    f"{NOT_HTTP}: lines of JSON go to the daemon's control port, which is {DEFAULT_PORT} unless the setting "
    "listen says another"
)


def answered(result: bytes) -> web.Response:
    """Return a result, which is JSON already."""
    return web.Response(body=result, content_type="application/json")


def refused(error: WireError, status: int | None = None) -> web.Response:
    """Return an error, with the status of its type or the one that is given."""
    status = status or STATUS.get(error.type, 500)
    response = web.json_response(body=encode({"error": error.to_wire()}), status=status)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(seconds := error.data.get("retry_after"), int | float):
        response.headers["Retry-After"] = str(max(1, round(seconds)))
    return response
