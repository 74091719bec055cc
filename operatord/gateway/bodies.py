# SPDX-License-Identifier: MIT
"""Reads what a request has in its body: JSON, and not too much of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from operatord_protocol.codec import TOO_DEEP
from operatord_protocol.errors import DeadlineExceeded, InvalidParams, InvalidRequest, ParseError
from operatord_protocol.framing import LINE_BYTES

from .process.patience import whole

SECONDS = 30.0
"""Time for a whole body."""
JSON = "application/json"
AROUND = 128
"""Bytes that a body is short of the daemon's longest line: the method and the number stand before it."""
SOCKET = "GET /api/v1/socket, a WebSocket of the protocol's lines"
BODY_BYTES: web.AppKey[list[int]] = web.AppKey("body_bytes", list)
"""Longest body, in a list of one, since the settings may change."""

_decode = msgspec.json.Decoder().decode


class NotJson(InvalidRequest):
    """The body is not said to be JSON."""


class TooLarge(InvalidRequest):
    """The body is longer than it may be."""


class Body:
    """The JSON of a request."""

    def __init__(self, text: bytes) -> None:
        """Read ``text``; nothing means ``{}``. Raises `ParseError`, `InvalidParams`."""
        text = text.strip() or b"{}"
        try:
            self.value: Any = _decode(text)
        except RecursionError as exc:
            raise ParseError(TOO_DEEP) from exc
        except ValueError as exc:
            raise ParseError(f"the body is not JSON ({exc}); an example: {{}}") from exc
        if not isinstance(self.value, dict):
            raise InvalidParams(
                'the body is an object of params by their names, such as {"count": 5}'
            )
        # In no string of JSON is the end of a line.
        self.line = text.replace(b"\r", b" ").replace(b"\n", b" ")
        """The same text in one line."""

    def get(self, name: str) -> Any:
        """Return a member; None if there is none."""
        return self.value.get(name)

    def check(self) -> None:
        """Refuse what would end with the request, or go on after it. Raises `InvalidParams`."""
        if self.get("lease") == "connection":
            text = 'an HTTP request is not a lasting connection: give {"ttl": 60}, and extend it, or use'
            raise InvalidParams(f"params.lease: {text} {SOCKET}", path="params.lease")
        if self.get("follow") is True:
            text = "later lines need a lasting connection:"
            raise InvalidParams(f"params.follow: {text} {SOCKET}", path="params.follow")


async def read(request: web.Request) -> Body:
    """Return the JSON of a body. Raises `NotJson`, `TooLarge`, `DeadlineExceeded`, and as `Body`."""
    if request.query_string:
        raise InvalidRequest(
            "params are members of the body, not of the address; a token is sent as "
            "Authorization: Bearer TOKEN"
        )
    if request.content_type != JSON:
        raise NotJson(f"say that the body is JSON: Content-Type: {JSON}")
    try:
        async with asyncio.timeout(SECONDS):
            text = await _read(request, request.app[BODY_BYTES][0] - AROUND)
    except TimeoutError as exc:
        raise DeadlineExceeded(f"a body must come within {SECONDS:g} s") from exc
    whole(request)
    return Body(text)


async def _read(request: web.Request, most: int) -> bytes:
    found = bytearray()
    if (request.content_length or 0) <= most:
        async for piece in request.content.iter_any():
            found += piece
            if len(found) > most:
                break
        else:
            return bytes(found)
    raise TooLarge(f"a body has {most} bytes at most (limits.line_bytes, less {AROUND})")


def default_bytes() -> list[int]:
    """Return how long a body may be where no daemon says it."""
    return [LINE_BYTES]
