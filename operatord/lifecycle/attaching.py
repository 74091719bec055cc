# SPDX-License-Identifier: MIT
"""The missing stage of a degraded session: it is started when there is room for it, and removed when it
fails. The plain stream never depends on it: if the attached stage fails, the session goes on.
"""

from __future__ import annotations

import logging
from typing import Any

from operatord.core.scheduling import scheduler
from operatord.gate.door import without_token
from operatord.provision.removal import persist
from operatord.provision.starter import Starter
from operatord.provision.steps import Interrupted, StepFailed
from operatord.session.record import SessionRecord

from .transitions import Transitions

log = logging.getLogger(__name__)


class Attacher:
    """Brings stages to sessions that run without them, and takes them away again."""

    def __init__(self, starter: Starter, transitions: Transitions) -> None:
        """Nothing is attached before that is decided."""
        self._starter = starter
        self._transitions = transitions

    def begin(self, action: scheduler.Attach) -> None:
        """Start what a session lacks; admission has debited it."""
        record = self._transitions.registry.records[action.session_id]
        record.hand_out(record.missing, action.gpus)
        record.attaching = self._transitions.own(self._attach(record))

    async def _attach(self, record: SessionRecord) -> None:
        name, *_ = record.missing
        try:
            await self._starter.attach(record, name)
        except Interrupted:
            return  # what was made of it goes with the session
        except StepFailed as exc:
            await self.detach(record, name, exc.reason)
            return
        except Exception:  # a defect: remove what was made of it, and give its place back
            await self.detach(record, name, "an internal error of the daemon; its log says more")
            raise
        log.info("session %s: the stage %s is attached", record.id, name)
        self._transitions.admission.decide(scheduler.Attached(record.id))
        self._tell("session.attached", record, stage=name, degraded=False)

    async def detach(self, record: SessionRecord, name: str, reason: str) -> None:
        """Remove an attached stage and give back what it held; the plain stream goes on."""
        log.warning("session %s: the stage %s is not attached: %s", record.id, name, reason)
        await persist(record, lambda: self._starter.detach(record, name))
        if record.phase == "running":
            self._transitions.decide(scheduler.Detached(record.id))
            self._tell("session.detached", record, stage=name, degraded=True, reason=reason)

    def _tell(self, event: str, record: SessionRecord, **fields: Any) -> None:
        """Write down and publish how ``record`` is now."""
        self._transitions.note(record)
        location = without_token(record.location)  # which its owner has, as it is the session's
        self._transitions.emit(event, session_id=record.id, **fields, location=location)
