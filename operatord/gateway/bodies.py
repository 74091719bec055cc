# SPDX-License-Identifier: MIT
"""Reads what a request has in its body: one JSON object."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from operatord_protocol.errors import DeadlineExceeded, InvalidRequest, ParseError

SECONDS = 30.0
"""Time for a whole body."""
JSON = "application/json"

_decode = msgspec.json.Decoder().decode


class NotJson(InvalidRequest):
    """The body is not said to be JSON."""


class TooLarge(InvalidRequest):
    """The body is longer than it may be."""


async def read(request: web.Request) -> bytes:
    """Return the JSON of a body in one line; ``{}`` where there is none.

    Raises `NotJson`, `TooLarge`, `ParseError`, `DeadlineExceeded`.
    """
    if request.content_type != JSON:
        raise NotJson(f"a request says that its body is JSON: Content-Type: {JSON}")
    try:
        async with asyncio.timeout(SECONDS):
            text = await request.read()
    except TimeoutError as exc:
        raise DeadlineExceeded(f"a body has {SECONDS:g} s to come") from exc
    except web.HTTPRequestEntityTooLarge as exc:
        raise TooLarge(f"a body has {request.client_max_size} bytes at most") from exc
    return one_line(text) if text.strip() else b"{}"


def one_line(text: bytes) -> bytes:
    """Return a JSON text in one line: in no string of JSON is a line's end. Raises `ParseError`."""
    try:
        _decode(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(f"the body is not JSON ({exc})") from exc
    return text.replace(b"\r", b" ").replace(b"\n", b" ").strip()
