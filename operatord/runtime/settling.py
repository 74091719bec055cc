# SPDX-License-Identifier: MIT
"""What a daemon that shuts down waits for: work that has been begun, and answers that are owed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from .record import SessionRecord

ROUNDS = 100
"""Turns of the event loop that answers get to reach their connections before those are closed."""


def needs_connection(record: SessionRecord) -> bool:
    """Tell whether a request comes to nothing without the connection that it came by."""
    return record.params.wait == "ready" or record.params.lease == "connection"


async def until_settled(living: Callable[[], list[SessionRecord]]) -> None:
    """Return when nothing of those ``living`` is being made or removed."""
    while unsettled := [record for record in living() if _is_unsettled(record)]:
        await _moved(unsettled[0])


async def until_answered(records: Iterable[SessionRecord]) -> None:
    """Let those who wait for a session that is ready, or has ended, have their answer."""
    for _ in range(ROUNDS):
        if not any(record.waiters for record in records):
            return
        await asyncio.sleep(0)


def _is_unsettled(record: SessionRecord) -> bool:
    """Tell whether something is being made or removed, or is about to be."""
    if record.phase == "running":
        return record.ending.done() or _attaches(record)
    return record.phase != "queued"


async def _moved(record: SessionRecord) -> None:
    """Return when what is being made or removed of a session has got on."""
    if record.attaching is not None and _attaches(record):
        await asyncio.wait((record.attaching,))
    else:
        await record.moved()


def _attaches(record: SessionRecord) -> bool:
    return record.attaching is not None and not record.attaching.done()
