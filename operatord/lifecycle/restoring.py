# SPDX-License-Identifier: MIT
"""Sessions of an earlier life of the daemon: what the journal says of each decides how it goes on.

Running ones are adopted as they are. Objects of all others are removed. Requests that wait get their place in
the queue once the engine has said what there is room for.
"""

from __future__ import annotations

import logging

from operatord.core.scheduling import scheduler
from operatord.scheduling.expiry import Expiry
from operatord.session.moments import recall
from operatord.session.record import Ending, QueuePosition, SessionRecord
from operatord.session.snapshot import SavedHolding, Unreadable, from_row, stand_in
from operatord.store.journal import Journal
from operatord.store.schema import SessionRow

from .session_tasks import SessionTasks
from .shutdown import needs_connection
from .transitions import Transitions

log = logging.getLogger(__name__)


class Restorer:
    """Takes sessions on, and remembers the requests that have to wait for the engine."""

    def __init__(
        self,
        transitions: Transitions,
        journal: Journal,
        expiry: Expiry,
        session_tasks: SessionTasks,
    ) -> None:
        """Nothing is taken on before `restore`."""
        self._transitions = transitions
        self._journal = journal
        self._admission = transitions.admission
        self._expiry = expiry
        self._session_tasks = session_tasks
        self._clock = transitions.clock
        self._wait_on: list[SessionRecord] = []
        """Requests, until they can stand in the queue again."""

    def restore(self, keeps: bool, problem: str | None) -> None:
        """Take on the sessions that the journal speaks of; those that cannot be read fail and are removed.

        With ``keeps`` their stages have gone on without the daemon; else those that ran have failed.
        Nothing is started while there is a ``problem`` with the engine.
        """
        if problem is not None:
            self._admission.block_starts("engine", problem)
        doubts: list[str] = []
        for row in self._journal.living():
            try:
                record, holding = from_row(row)
            except Unreadable as exc:
                self._give_up(row, exc)
                continue
            if doubt := recall(record, self._clock):
                doubts.append(doubt)
            self._transitions.registry.add(record)
            self._transitions.count(record)
            if record.phase == "queued":
                self._wait(record, problem)
            else:
                self._take_on(record, holding, keeps)
        if doubts:
            log.warning("%s", doubts[0])

    def _give_up(self, row: SessionRow, exc: Unreadable) -> None:
        """Fail a session whose row cannot be read, and log where the row is kept."""
        log.error(
            "%s; it counts as failed, and what it has on the engine is removed; what was written of it "
            "stays in the journal: SELECT data FROM fact WHERE name = '%s'",
            exc,
            self._journal.keep_aside(row),
        )
        record = stand_in(row, self._clock.wall())
        self._transitions.registry.add(record)
        self._transitions.announce(record)
        self._take_on(record, None, keeps=False)

    def _wait(self, record: SessionRecord, problem: str | None) -> None:
        """Keep a request waiting, unless its requester waited on a connection for it."""
        if needs_connection(record):
            reason = "the daemon was restarted, and the connection that waited is gone"
            self._transitions.finish(record, Ending("stopped", "client", reason))
            return
        self._expiry.wait_on(record)
        record.place = QueuePosition(reason=problem)
        self._wait_on.append(record)

    def _take_on(self, record: SessionRecord, holding: SavedHolding | None, keeps: bool) -> None:
        """Count with what a session holds, and let it live on or be removed."""
        if holding is not None:
            self._admission.restore(record, holding)
        self._session_tasks.hold_subnet(record)
        if record.phase == "running" and keeps:
            log.info("session %s is taken on", record.id)
            record.observed.exits.clear()  # they are seen again, and judged
            record.observed.by_others.clear()
            self._expiry.resume(record)
            self._transitions.own(self._session_tasks.live_on(record))
        else:
            self._transitions.own(self._session_tasks.see_off(record, self._ending(record)))

    def _ending(self, record: SessionRecord) -> Ending:
        """Return why ``record`` is stopping; a session that was starting stops from now on."""
        if record.phase != "stopping":
            began = "being started" if record.phase == "starting" else "running"
            reason = f"the daemon ended while the session was {began}"
            record.result = Ending("failed", "restart", reason)
            record.advance("stopping", self._clock.wall())
            self._transitions.announce(record)
        assert record.result is not None
        return record.result

    def requeue(self) -> None:
        """Put requests into the queue: the engine has said what there is room for."""
        records, self._wait_on = self._wait_on, []
        for record in records:
            if record.phase != "queued":
                continue  # it was ended meanwhile
            ask = self._admission.ask(record.plan, record.params, record.owner, record.id)
            waited = max(0.0, self._clock.now() - record.moments["queued"])
            latest = None if ask.latest is None else ask.latest - waited
            ask = ask._replace(waited=waited, latest=latest)
            self._transitions.decide(scheduler.Submitted(ask))
