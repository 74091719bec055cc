# SPDX-License-Identifier: MIT
"""Compares the journal with the engine: at the start, when the engine is back, and every few seconds. A start
after the daemon was killed is like any other. Running sessions are adopted as they are; sessions that were
starting are removed; removals continue. Nothing is decided about a session before the engine has answered.

What carries this daemon's label and belongs to no session of it is an orphan, such as what was made by a call
whose answer got lost. It is removed after a grace period if a fresh list still shows it; but not what
`forgotten` spares.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.metering.background import ReconcileMeter

from .forgotten import Forgotten, session_of
from .supervisor import Supervisor

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds for which an object has to be seen without an owner before it is removed."""


class Reconciler:
    """Compares the sessions with the engine's objects."""

    def __init__(
        self,
        engine: base.Engine,
        supervisor: Supervisor,
        forgotten: Forgotten,
        instance: str,
        clock: Clock,
    ) -> None:
        """``instance`` is the label of everything that is this daemon's."""
        self.meter = ReconcileMeter()
        self._forgotten = forgotten
        self._engine = engine
        self._supervisor = supervisor
        self._instance = instance
        self._clock = clock
        self.grace = GRACE
        self._leftovers = supervisor.former_slots()
        """Slots of an earlier daemon: no grace is needed, since nobody knows of them."""
        self._seen: dict[str, float] = {}
        """Orphans, and when each was seen first."""

    async def look(self) -> None:
        """Compare once. Raises `base.EngineError`."""
        begun, result = self._clock.now(), "failed"
        try:
            await self._compare()
            result = "done"
        finally:
            self.meter.seconds.observe(self._clock.now() - begun, result)

    async def _compare(self) -> None:
        supervisor = self._supervisor
        known = {
            record.id: dict(record.provisioned.containers)
            for record in supervisor.registry.present()
        }
        found = await self._engine.list_objects(self._instance)
        supervisor.exits.compare(found, known)
        for each in found:
            if each.paused:
                supervisor.slots.paused(session_of(each))
        await supervisor.slots.look()
        orphans = [each for each in found if self._is_orphan(each)]
        spared = self._forgotten.spare([each for each in orphans if self._is_unknown(each)])
        orphans = [each for each in orphans if each.id not in spared]
        now = self._clock.now()
        self._seen = {each.id: self._seen.get(each.id, now) for each in orphans}
        self.meter.orphans = len(orphans)
        due = {each.id for each in orphans if self._is_due(each, now)}
        if due:
            await self._try_to_remove(due)

    def _is_due(self, orphan: base.Found, now: float) -> bool:
        """Tell whether its grace is over; it has none if its session has ended."""
        return self._is_over(session_of(orphan)) or now - self._seen[orphan.id] >= self.grace

    def _is_over(self, session_id: str) -> bool:
        return session_id in self._leftovers or self._supervisor.registry.has_ended(session_id)

    def _is_unknown(self, orphan: base.Found) -> bool:
        """Tell whether the journal says nothing of the session that an orphan is of."""
        session_id = session_of(orphan)
        return self._supervisor.known(session_id) is None and not self._is_over(session_id)

    def _is_orphan(self, found: base.Found) -> bool:
        record = self._supervisor.known(session_of(found))
        if record is None:
            return True
        if record.phase != "running" or record.is_attaching:
            return False  # the task that starts or removes it takes care of it
        if found.kind == "network":
            return (
                record.provisioned.network is not None and found.id != record.provisioned.network.id
            )
        return found.id not in record.provisioned.containers.values()

    async def _try_to_remove(self, due: set[str]) -> None:
        """Remove orphans; what cannot be removed now is tried again with the next look."""
        try:
            await self._remove(due)
        except base.EngineUnavailable:
            raise
        except base.EngineError as exc:
            log.warning("what no session has is not all removed: %s", exc)

    async def _remove(self, due: set[str]) -> None:
        """Remove orphans, containers first; labels and owners are looked at once more before."""
        again = await self._engine.list_objects(self._instance)
        orphans = [each for each in again if each.id in due and self._is_orphan(each)]
        for each in orphans:
            owner = session_of(each) or "nobody"
            log.warning("removing the %s %s of %s: no session has it", each.kind, each.name, owner)
        await remove(self._engine, orphans)
        for each in orphans:
            self.meter.removed.add(each.kind)


async def remove(engine: base.Engine, objects: Iterable[base.Found]) -> None:
    """Remove containers, and then networks. Raises `base.EngineError`."""
    objects = list(objects)
    containers = [engine.remove(each.id) for each in objects if each.kind == "container"]
    _raise_first(await asyncio.gather(*containers, return_exceptions=True))
    networks = [engine.remove_network(each.id) for each in objects if each.kind == "network"]
    _raise_first(await asyncio.gather(*networks, return_exceptions=True))


def _raise_first(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result
