# SPDX-License-Identifier: MIT
"""The life of one session, as the task that lives it goes through it: started, running, stopping, gone.

The phase is written down before what it speaks of is done; `core.phases` has the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from operatord.core.scheduling import scheduler
from operatord.engine_link.availability import EngineAvailability
from operatord.engines import base
from operatord.provision.removal import persist
from operatord.provision.starter import Starter
from operatord.provision.steps import Interrupted, StepFailed
from operatord.session.postmortem import collect
from operatord.session.record import Ending, SessionRecord
from operatord.store.journal_file import JournalFailed
from operatord_protocol import errors

from .refusals import final_error, step_error
from .transitions import Transitions

log = logging.getLogger(__name__)


class SessionTaskHooks(NamedTuple):
    """Who hears of what happens in the life of a session."""

    running: Callable[[SessionRecord], None]
    """Hears that the stream of a session is there."""
    hung: Callable[[SessionRecord], None]
    """Hears that a stage of a claimed slot hung."""
    grace: Callable[[], float]
    """Returns the seconds that stages get to end by themselves, as the settings are now."""


class SessionTasks:
    """Runs sessions: each call of `live`, `live_on` or `see_off` takes one session to its end."""

    def __init__(
        self,
        engine: base.Engine,
        availability: EngineAvailability,
        starter: Starter,
        transitions: Transitions,
        hooks: SessionTaskHooks,
    ) -> None:
        """``starter`` makes and removes what a session has on ``engine``, which ``availability`` knows of."""
        self._engine = engine
        self._availability = availability
        self._starter = starter
        self._transitions = transitions
        self._admission = transitions.admission
        self._writer = transitions.writer
        self._hooks = hooks
        self._clock = transitions.clock
        self.unanswered: list[SessionRecord] = []
        """Starts that were begun since the engine last answered anything."""

    def begin(self, action: scheduler.Start) -> None:
        """Start a session; admission has debited what it takes."""
        record = self._transitions.registry.records[action.session_id]
        if action.degraded:
            record.missing = (record.plan.location_stage,)
        record.hand_out(record.stages, action.gpus)
        self._transitions.begin(record)
        self._availability.on_ask()
        self.unanswered.append(record)
        self._transitions.own(self.live(record))

    async def live(self, record: SessionRecord) -> None:
        """Start a session, wait for its end, remove it whole."""
        try:
            ending = await self._run(record)
        except Exception:
            ending = _defect(record)
        await self._end(record, ending)

    def hold_subnet(self, record: SessionRecord) -> None:
        """Give no other session the subnet of one that an earlier daemon started."""
        self._starter.hold_subnet(record)

    async def live_on(self, record: SessionRecord) -> None:
        """Wait for the end of a session that was taken on, and remove it whole."""
        await self._end(record, await asyncio.shield(record.ending))

    async def see_off(self, record: SessionRecord, ending: Ending) -> None:
        """Stop a session's stages, read how they ended, and remove all of it."""
        await (
            self._availability.first_answer.wait()
        )  # nothing is decided about an earlier daemon's sessions before
        grace = self._hooks.grace() if ending.grace is None else ending.grace
        await collect(self._engine, record, grace)
        await persist(record, lambda: self._starter.remove(record))
        self._transitions.gone(record, ending._replace(error=final_error(record, ending)))

    async def _run(self, record: SessionRecord) -> Ending:
        """Start a session; return why it is to end, once it is."""
        try:
            if record.warm:
                await self._claim(record)
            else:
                await self._writer.settled()  # what is to be done is written down first
                await self._starter.start(record)
        except JournalFailed as exc:
            error = errors.NoCapacity(str(exc), dimension="disk", session_id=record.id)
            return Ending("failed", "disk", str(exc), error)
        except StepFailed as exc:
            step = exc.data.get("step", record.step)
            log.warning("session %s: the start failed at %s: %s", record.id, step, exc)
            self._transitions.meter.failures.add(step)
            return Ending("failed", exc.cause, exc.reason, step_error(record, exc), stage=exc.stage)
        except Interrupted:
            return record.ending.result()
        await self._keep_relay(record)
        record.phases["running"] = self._clock.wall()
        record.moments["running"] = self._clock.now()
        await self._writer.write_running(record)
        record.advance("running", self._clock.wall())
        self._admission.started(record.plan.pipeline, record.timings["total"] / 1000)
        self._transitions.meter.started(record.plan.pipeline, record.timings, warm=record.warm)
        self._hooks.running(record)
        self._transitions.announce(record)
        with contextlib.suppress(base.EngineError):  # it goes with the session, then
            await self._starter.discard(record)
        return await asyncio.shield(record.ending)

    async def _claim(self, record: SessionRecord) -> None:
        """Use a claimed slot. If it turns out to be broken, start without it.

        Raises `StepFailed`, `Interrupted`, `JournalFailed`.
        """
        try:
            # Its objects were written down when the slot was made, and none are added.
            await self._starter.claim(record)
        except (StepFailed, Interrupted) as exc:
            if record.ending.done() and record.ending.result().stage is None:
                raise  # somebody asked for its end
            fault = await self._starter.slot_faults.fault(record, exc)
            if fault is None:
                raise
            log.warning(
                "session %s: the slot was broken, and is done without: %s",
                record.id, record.ending.result().reason if record.ending.done() else exc,
            )  # fmt: skip
            if fault == "hangs":
                self._hooks.hung(record)
            self._writer.note(record)
            await self._writer.settled()
            record.go_on()  # no sooner: other stages of the slot may be about to be seen to end
            await self._starter.start_without_slot(record)

    async def _keep_relay(self, record: SessionRecord) -> None:
        """Have the relay of a session outlive the daemon.

        The relay is written down before that, and the session runs only after it: whenever the daemon dies,
        no relay is unknown, and no running session has lost its relay.
        """
        if record.provisioned.relay is not None:
            self._writer.note(record)
            await self._writer.written()
            record.provisioned.relay.stay()

    async def _end(self, record: SessionRecord, ending: Ending) -> None:
        record.result = ending
        record.advance("stopping", self._clock.wall())
        self._transitions.announce(record)
        await (
            self._writer.written()
        )  # before anything is removed; if that fails, the removal goes on
        if record.attaching is not None:
            await asyncio.wait((record.attaching,))
        await self.see_off(record, ending)


def _defect(record: SessionRecord) -> Ending:
    log.exception("session %s: internal error", record.id)
    reason = "an internal error of the daemon; its log says more"
    return Ending("failed", "internal", reason, errors.InternalError(reason))
