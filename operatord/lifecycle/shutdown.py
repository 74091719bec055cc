# SPDX-License-Identifier: MIT
"""The end of the daemon, for its sessions: they end with it, or live on without it.

Work that has been begun is finished, and answers that are owed are given, in both ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from operatord.session.record import Ending, SessionRecord
from operatord_protocol import errors

from .slots import SlotPool
from .transitions import Transitions

SHUTTING_DOWN = "the daemon is shutting down"
ROUNDS = 100
"""Rounds of the event loop for answers to reach their connections before those are closed."""


class Shutdown:
    """Ends sessions, or leaves them."""

    def __init__(
        self, transitions: Transitions, slots: SlotPool, drain: Callable[[bool], None]
    ) -> None:
        """``drain`` lets no more sessions in."""
        self._transitions = transitions
        self._slots = slots
        self._drain = drain

    async def close(self, grace: float) -> None:
        """End every session and wait until all of them are gone. Idempotent.

        Each stage gets ``grace`` seconds to end by itself.
        """
        self._drain(True)
        self._slots.close()
        ending = Ending("stopped", "shutdown", SHUTTING_DOWN, grace=grace)
        concerned = self._transitions.registry.living()
        for record in concerned:
            self._transitions.end(record, ending)
        if self._transitions.tasks:
            await asyncio.wait(self._transitions.tasks)
        await self._slots.emptied()  # a slot that was being made is removed by its maker
        await _until_answered(concerned)

    async def leave(self) -> None:
        """Leave sessions to the next daemon: finish what has been begun, begin nothing."""
        transitions = self._transitions
        self._drain(True)
        transitions.act(transitions.admission.block_starts("shutdown", SHUTTING_DOWN))
        self._slots.close()
        concerned = transitions.registry.living()
        self._turn_away()
        await _until_settled(transitions.registry.living)
        await _until_answered(concerned)
        await self._slots.emptied()
        transitions.abort()

    def _turn_away(self) -> None:
        """Tell requesters that wait in the queue on a connection that it ends with the daemon."""
        for record in self._transitions.registry.living():
            if record.phase == "queued" and needs_connection(record):
                error = errors.Draining(SHUTTING_DOWN, session_id=record.id, retry_after=1)
                ending = Ending("stopped", "shutdown", SHUTTING_DOWN, error)
                self._transitions.end(record, ending)


def needs_connection(record: SessionRecord) -> bool:
    """Tell whether a request is void without the connection that it came by."""
    return record.params.wait == "ready" or record.params.lease == "connection"


async def _until_settled(living: Callable[[], list[SessionRecord]]) -> None:
    """Return when nothing of those ``living`` is being made or removed."""
    while unsettled := [record for record in living() if _is_unsettled(record)]:
        await _moved(unsettled[0])


async def _until_answered(records: Iterable[SessionRecord]) -> None:
    """Return when those who wait for a session that is ready, or has ended, have their answer."""
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
    """Return when the start or removal of a session has made progress."""
    if record.attaching is not None and _attaches(record):
        await asyncio.wait((record.attaching,))
    else:
        await record.moved()


def _attaches(record: SessionRecord) -> bool:
    return record.attaching is not None and not record.attaching.done()
