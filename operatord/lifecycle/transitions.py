# SPDX-License-Identifier: MIT
"""The only way in which sessions change: decisions are carried out, and each change is written down and
published.

It is made first, and handed to everything that starts, watches or ends sessions. Each kind of action, such as
`scheduler.Start`, is done by one function; `Supervisor` names them with `on`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from operatord.core.scheduling import scheduler
from operatord.machine.clock import Clock
from operatord.metering.sessions import SessionMeter
from operatord.scheduling.admission import Admission
from operatord.scheduling.queue_progress import QueueNotifier
from operatord.session.leases import Leases
from operatord.session.record import Ending, SessionRecord
from operatord.session.registry import SessionRegistry
from operatord.session.writer import SessionWriter
from operatord.store.events import Emit
from operatord.store.journal import Journal

from .refusals import refusal

log = logging.getLogger(__name__)


class Transitions:
    """All sessions of this daemon, and how they change."""

    def __init__(
        self,
        admission: Admission,
        clock: Clock,
        journal: Journal,
        emit: Emit,
        meter: SessionMeter,
    ) -> None:
        """``admission`` decides; ``emit`` publishes an event; ``meter`` counts."""
        self.admission = admission
        self.clock = clock
        self.meter = meter
        self.emit = emit
        self.registry = SessionRegistry(journal)
        self.writer = SessionWriter(journal, admission.holding, self.clock, emit)
        self.leases = Leases(self.clock, emit, self.end)
        self.on_defect: Callable[[str, BaseException], None] = _log_defect
        """Hears what broke in the daemon's own work, and how."""
        self.tasks: set[asyncio.Task[None]] = set()
        """What is under way for sessions; a shutdown waits for it."""
        self._notifier = QueueNotifier(admission, self.clock)
        self._calm = asyncio.Event()
        self._calm.set()
        self._doers: dict[type[Any], Callable[[Any], None]] = {}
        self.on(scheduler.Enqueue, lambda action: self._notifier.wait(self._record_of(action)))
        self.on(scheduler.Refuse, self._refuse)

    # What is decided

    def on(self, kind: type[scheduler.Action], do: Callable[[Any], None]) -> None:
        """Have ``do`` do all actions of a kind."""
        self._doers[kind] = do

    def decide(self, event: scheduler.Event) -> None:
        """Have it decided what follows from ``event``, and do it."""
        self.act(self.admission.decide(event))

    def act(self, actions: Iterable[scheduler.Action]) -> None:
        """Do what was decided; then update the queue positions of those who still wait."""
        for action in actions:
            self._doers[type(action)](action)
        self._notifier.tell(lambda: self.decide(scheduler.Tick()))

    def _record_of(self, action: scheduler.Enqueue | scheduler.Refuse) -> SessionRecord:
        return self.registry.records[action.session_id]

    def _refuse(self, action: scheduler.Refuse) -> None:
        error = refusal(action, self.clock)
        cause = "deadline" if action.type == "deadline_exceeded" else "no_capacity"
        self.finish(self._record_of(action), Ending("refused", cause, error.message, error))

    # What becomes of sessions

    def begin(self, record: SessionRecord) -> None:
        """Write down that a session is being started: it waits no longer."""
        self._notifier.forget(record)
        self._note_wait(record, "started")
        record.advance("starting", self.clock.wall())
        self.announce(record)

    def end(self, record: SessionRecord, ending: Ending) -> None:
        """Ask ``record`` to end for the reason given, whatever phase it is in."""
        if record.phase == "queued":
            # Out of the queue first, or this one might be started.
            actions = self.admission.decide(scheduler.Withdrawn(record.id))
            self.finish(record, ending)
            self.act(actions)
        else:
            record.ask_end(ending)

    def gone(self, record: SessionRecord, ending: Ending) -> None:
        """Nothing of a session is left: write down how it ended, and give its place to others."""
        self.finish(record, ending)
        self.released(record.id)

    def finish(self, record: SessionRecord, ending: Ending) -> None:
        """Write down how a session ended that has nothing on the engine, and wake whoever waits."""
        self.leases.forget(record)
        self._notifier.forget(record)
        if record.phase == "queued":
            self._note_wait(record, ending.outcome)
        record.ask_end(ending)
        record.result = ending
        record.advance("ended", self.clock.wall())
        self.registry.remove(record)
        self.meter.ended.add(record.plan.pipeline, ending.outcome, ending.cause)
        self.announce(record, outcome=ending.outcome, cause=ending.cause, reason=ending.reason)

    def released(self, session_id: str) -> None:
        """Give the place of a session or a slot to others: nothing of it is left."""
        self.decide(scheduler.Released(session_id))

    def announce(self, record: SessionRecord, **fields: Any) -> None:
        """Write down and publish the phase that ``record`` has come to."""
        self.writer.announce(record, **fields)
        self.count(record)
        self._note_calm()

    def count(self, record: SessionRecord) -> None:
        """Count ``record`` in the phase that it is in."""
        self.meter.moved(record.id, record.plan.pipeline, record.phase)

    def _note_wait(self, record: SessionRecord, left: str) -> None:
        if (asked := record.moments.get("queued")) is not None:
            self.meter.waits.observe(max(0.0, self.clock.now() - asked), left)

    def note(self, record: SessionRecord) -> None:
        """Write a session down as it is now."""
        self.writer.note(record)

    def look_up(self, record: SessionRecord) -> None:
        """Note in ``record`` its place in the queue as it is now, if it waits."""
        if record.phase == "queued":
            self._notifier.refresh(record)

    # What is under way

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` as one of the tasks that a shutdown waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.on_defect("what is done for a session", exc)

    def abort(self) -> None:
        """Give up on what is under way; the journal has it, and a later start goes on."""
        for task in self.tasks:
            task.cancel()

    @property
    def is_calm(self) -> bool:
        """Whether nothing is being made or removed that somebody waits for."""
        return self._calm.is_set()

    async def calm(self) -> None:
        """Return when nothing is being made or removed that somebody waits for."""
        await self._calm.wait()

    def _note_calm(self) -> None:
        if any(
            record.phase in ("starting", "stopping") for record in self.registry.records.values()
        ):
            self._calm.clear()
        else:
            self._calm.set()


def _log_defect(name: str, exc: BaseException) -> None:
    log.critical("%s broke", name, exc_info=exc)
