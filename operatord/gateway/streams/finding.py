# SPDX-License-Identifier: MIT
"""Where the stream of a session is, for who asks: a session that is about to run is waited for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NoReturn

from aiohttp import web

from operatord.gateway.conversation import Conversation
from operatord.gateway.upstream import UPSTREAM
from operatord_protocol.answers import decode_result
from operatord_protocol.codec import encode
from operatord_protocol.errors import (
    Conflict,
    DaemonUnavailable,
    DeadlineExceeded,
    Forbidden,
    TooManyRequests,
)
from operatord_protocol.messages import Location, Session

PATIENCE = 10.0
"""Seconds for which a session that does not run yet is waited for."""
AGAIN_SECONDS = 60.0
"""Seconds between two looks at whether somebody may still look."""


async def find(request: web.Request, token: str | None = None) -> Location:
    """Return the location of the session in the path, such that this process can connect to it.

    ``token`` logs in, in place of the header's. Raises what the daemon refuses it with, `Conflict` for a
    session that has none (yet, or any more), and `Forbidden` for one of somebody else.
    """
    session_id = request.match_info["session_id"]
    upstream = request.app[UPSTREAM]
    async with upstream.daemon(request, token) as daemon:
        session = decode_result(
            await daemon.ask("session.get", encode({"session_id": session_id})), Session
        )
        if session.phase in ("queued", "starting"):
            session = await _running(daemon, session)
        if session.phase != "running":
            how = "has ended" if session.phase == "ended" else f"is {session.phase}"
            raise Conflict(f"session {session_id} {how}, and its stream is gone; start another")
        if (location := await upstream.location(daemon, session)) is None:
            raise Forbidden(
                f"session {session_id} belongs to {session.owner}: its owner and operators may see its stream"
            )
        return location


async def until_refused(request: web.Request, token: str | None = None) -> NoReturn:
    """Ask again and again whether who asks may still look, whose token may be revoked meanwhile.

    Raises what it is refused with. That the session ends, or the daemon restarts, is no refusal.
    """
    while True:
        await asyncio.sleep(AGAIN_SECONDS)
        with suppress(Conflict, DaemonUnavailable, TooManyRequests):
            await find(request, token)


async def _running(daemon: Conversation, session: Session) -> Session:
    """Return a session once it runs, or has ended."""
    wait = {"session_id": session.session_id, "phase": "running", "timeout": PATIENCE}
    try:
        return decode_result(await daemon.ask("session.wait", encode(wait)), Session)
    except DeadlineExceeded as exc:
        why = f": {session.reason}" if isinstance(session.reason, str) else ""
        raise Conflict(
            f"session {session.session_id} is {session.phase}{why}; ask again once it runs",
            retry_after=int(PATIENCE),
        ) from exc
