# SPDX-License-Identifier: MIT
"""What a degraded session lacks: it is started when there is room for it, and removed when it fails.

The plain stream never depends on it: whatever becomes of the attached stage, the session goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from operatord.core import scheduler

from .admission import Admission
from .record import SessionRecord
from .removal import persist
from .starter import Starter
from .steps import Interrupted, StepFailed

log = logging.getLogger(__name__)


class Deeds(NamedTuple):
    """What attaching has others do."""

    own: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Runs a task that a shutdown waits for."""
    act: Callable[[Iterable[scheduler.Action]], None]
    """Does what was decided."""
    note: Callable[[SessionRecord], None]
    """Writes a session down as it is now."""
    emit: Callable[..., None]
    """Publishes an event: its type, then its fields by name."""


class Attacher:
    """Brings stages to sessions that run without them, and takes them away again."""

    def __init__(self, starter: Starter, admission: Admission, deeds: Deeds) -> None:
        """Nothing is attached before `begin`."""
        self._starter = starter
        self._admission = admission
        self._do = deeds

    def begin(self, record: SessionRecord) -> None:
        """Start what ``record`` lacks; admission has debited it."""
        record.attaching = self._do.own(self._attach(record))

    async def _attach(self, record: SessionRecord) -> None:
        name, *_ = record.missing
        try:
            await self._starter.attach(record, name)
        except Interrupted:
            return  # what was made of it goes with the session
        except StepFailed as exc:
            await self.detach(record, name, exc.reason)
            return
        except Exception:  # a defect: what was made of it is removed, and its place given back
            await self.detach(record, name, "an internal error of the daemon; its log says more")
            raise
        log.info("session %s: the stage %s is attached", record.id, name)
        self._admission.decide(scheduler.Attached(record.id))
        self._tell("session.attached", record, stage=name, degraded=False)

    async def detach(self, record: SessionRecord, name: str, reason: str) -> None:
        """Remove an attached stage and give back what it held; the plain stream goes on."""
        log.warning("session %s: the stage %s is not attached: %s", record.id, name, reason)
        await persist(record, lambda: self._starter.detach(record, name))
        if record.phase == "running":
            self._do.act(self._admission.decide(scheduler.Detached(record.id)))
            self._tell("session.detached", record, stage=name, degraded=True, reason=reason)

    def _tell(self, event: str, record: SessionRecord, **fields: Any) -> None:
        """Write down and publish how ``record`` is now."""
        self._do.note(record)
        self._do.emit(event, session_id=record.id, **fields, location=record.location)
