# SPDX-License-Identifier: MIT
"""The life of one session, as the task that lives it goes through it: started, running, stopping, gone.

The phase is written down before what it speaks of is done; `core.phases` has the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from operatord.engines import base
from operatord_protocol import errors

from .admission import Admission
from .chronicle import Chronicle
from .journal_file import JournalFailed
from .postmortem import collect
from .record import Ending, SessionRecord
from .refusals import final_error, step_error
from .removal import persist
from .starter import Starter
from .steps import Interrupted, StepFailed

log = logging.getLogger(__name__)


class Deeds(NamedTuple):
    """What a life has others do."""

    answered: Callable[[], Awaitable[object]]
    """Returns when the engine has answered once: nothing is decided about an earlier life before."""
    announce: Callable[[SessionRecord], None]
    """Writes down and publishes the phase that a session has come to."""
    running: Callable[[SessionRecord], None]
    """Hears that the stream of a session is there."""
    hung: Callable[[SessionRecord], None]
    """Hears that a stage hung of what was made beforehand for a session."""
    gone: Callable[[SessionRecord, Ending], None]
    """Hears that nothing of a session is left."""


class Life:
    """Lives sessions: each call of `live`, `live_on` or `see_off` is the rest of one's life."""

    def __init__(
        self,
        engine: base.Engine,
        starter: Starter,
        admission: Admission,
        chronicle: Chronicle,
        deeds: Deeds,
    ) -> None:
        """``starter`` makes and removes what a session has on ``engine``."""
        self._engine = engine
        self._starter = starter
        self._admission = admission
        self._chronicle = chronicle
        self._do = deeds
        self._clock = admission.clock

    async def live(self, record: SessionRecord) -> None:
        """Start a session, wait for its end, remove it whole."""
        try:
            ending = await self._run(record)
        except Exception:
            ending = _defect(record)
        await self._end(record, ending)

    async def live_on(self, record: SessionRecord) -> None:
        """Wait for the end of a session that was taken on, and remove it whole."""
        await self._end(record, await asyncio.shield(record.ending))

    async def see_off(self, record: SessionRecord, ending: Ending) -> None:
        """Read the last words of a session that is stopping, and remove all of it."""
        await self._do.answered()
        grace = self._admission.config.stop_grace if ending.grace is None else ending.grace
        await collect(self._engine, record, grace)
        await persist(record, lambda: self._starter.remove(record))
        self._do.gone(record, ending._replace(error=final_error(record, ending)))

    async def _run(self, record: SessionRecord) -> Ending:
        """Start a session; return why it is to end, once it is."""
        try:
            if record.warm:
                await self._claim(record)
            else:
                await self._chronicle.settled()  # what is to be done is written down first
                await self._starter.start(record)
        except JournalFailed as exc:
            error = errors.NoCapacity(str(exc), dimension="disk", session_id=record.id)
            return Ending("failed", "disk", str(exc), error)
        except StepFailed as exc:
            step = exc.data.get("step", record.step)
            log.warning("session %s: the start failed at %s: %s", record.id, step, exc)
            return Ending("failed", exc.cause, exc.reason, step_error(record, exc), stage=exc.stage)
        except Interrupted:
            return record.ending.result()
        await self._keep_relay(record)
        record.phases["running"] = self._clock.wall()
        record.moments["running"] = self._clock.now()
        await self._chronicle.write_running(record)
        record.advance("running", self._clock.wall())
        self._admission.started(record.plan.pipeline, record.timings["total"] / 1000)
        self._do.running(record)
        self._do.announce(record)
        with contextlib.suppress(base.EngineError):  # it goes with the session, then
            await self._starter.discard(record)
        return await asyncio.shield(record.ending)

    async def _claim(self, record: SessionRecord) -> None:
        """Take on what was made beforehand. If that turns out to be broken, start without it.

        Raises `StepFailed`, `Interrupted`, `JournalFailed`.
        """
        try:
            # All that there is of it was written down when it was made, and nothing is added.
            await self._starter.claim(record)
        except (StepFailed, Interrupted) as exc:
            if record.ending.done() and record.ending.result().stage is None:
                raise  # it is somebody's wish
            fault = await self._starter.slot_faults.fault(record, exc)
            if fault is None:
                raise
            log.warning(
                "session %s: the slot was broken, and is done without: %s",
                record.id, record.ending.result().reason if record.ending.done() else exc,
            )  # fmt: skip
            if fault == "hangs":
                self._do.hung(record)
            record.go_on()
            self._chronicle.note(record)
            await self._chronicle.settled()
            await self._starter.start_without_slot(record)

    async def _keep_relay(self, record: SessionRecord) -> None:
        """Let the relay of a session outlive the daemon.

        It is written down before that, and the session runs only after it: whenever the daemon dies, there
        is neither a relay that nobody knows, nor a session that runs and has lost its own.
        """
        if record.relay is not None:
            self._chronicle.note(record)
            await self._chronicle.written()
            record.relay.stay()

    async def _end(self, record: SessionRecord, ending: Ending) -> None:
        record.result = ending
        record.advance("stopping", self._clock.wall())
        self._do.announce(record)
        await self._chronicle.written()  # before it is undone; but it has to end in any case
        if record.attaching is not None:
            await asyncio.wait((record.attaching,))
        await self.see_off(record, ending)


def _defect(record: SessionRecord) -> Ending:
    log.exception("session %s: internal error", record.id)
    reason = "an internal error of the daemon; its log says more"
    return Ending("failed", "internal", reason, errors.InternalError(reason))
