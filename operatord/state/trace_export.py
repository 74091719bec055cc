# SPDX-License-Identifier: MIT
"""``operatord export-trace``: what a daemon was asked for, as a trace for ``operatord simulate --trace``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from operatord.core.demand import shape_of
from operatord.session.snapshot import Snapshot, decode
from operatord.simulation.recorded import write
from operatord.simulation.trace import Job
from operatord.store.journal_file import JOURNAL
from operatord.store.reader import reading
from operatord.store.schema import WrongVersion

from .targets import require_foreign, require_kind

TRACE = b'{"at":'
"""What each line of a trace begins with."""


class NothingRecorded(Exception):
    """There is no journal that can be read here, or nothing in it that ran; the text says which."""


def export_trace(state_dir: Path, target: Path, settings: Path | None = None) -> int:
    """Write the sessions that the journal in ``state_dir`` remembers; return how many.

    The daemon may go on meanwhile. A file that is there is replaced if it is a trace, or empty. Raises
    `targets.CannotDo`, `NothingRecorded`, `simulation.recorded.TraceError`, `OSError`.
    """
    require_foreign(target, state_dir, settings)
    require_kind(target, TRACE, "trace")
    journal = state_dir / JOURNAL
    if not journal.exists():
        raise NothingRecorded(f"{state_dir} has no journal: no daemon has run with it")
    try:
        jobs = sorted(_jobs(journal))
    except WrongVersion as exc:
        raise NothingRecorded(f"{journal} {exc}") from exc
    except sqlite3.Error as exc:
        raise NothingRecorded(f"{journal} cannot be read: {exc}") from exc
    if not jobs:
        raise NothingRecorded("no session has come to run yet")
    first = jobs[0].at
    return write(target, (job._replace(at=job.at - first) for job in jobs))


def _jobs(journal: Path) -> Iterator[Job]:
    with reading(journal) as reader:
        for row in reader.all_sessions():
            try:
                job = _job(row.owner, decode(row.data))
            except msgspec.MsgspecError:
                continue  # of another version: it is no reason to leave out the others
            if job is not None:
                yield job


def _job(owner: str, session: Snapshot) -> Job | None:
    """Return a session as a job; None for one whose length nobody knows, since it never ran or still does."""
    times = session.phases
    if "running" not in times or "ended" not in times:
        return None
    return Job(
        at=times["queued"],
        owner=owner,
        need=shape_of(session.plan, tuple(session.plan.stages)).need._replace(subnets=0, ports=0),
        seconds=max(0.001, times["ended"] - times["running"]),
        priority=session.params.priority,
        estimate=session.plan.expected_seconds,
    )
