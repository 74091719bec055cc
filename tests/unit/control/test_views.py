# SPDX-License-Identifier: MIT
"""What is told of a session that runs is encoded once, for as long as nothing of it has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from operatord.core.plans import make_plan
from operatord.engines.base import StageState
from operatord.machine.clock import Clock
from operatord.session.record import Observed, Provisioned, SessionRecord
from operatord.session.view import shown_by, to_session
from operatord.settings.config import Config
from operatord.streams.reports import Report
from operatord_protocol.messages import Location, Session, SessionStartParams

STILL = {
    "id": "it is given once",
    "phase": "only what runs is kept",
    "phases": "a session that runs has come into its last phase before it ends",
    "place": "it left the queue before it ran",
    "result": "it is shown from the phase `stopping` on",
    "moments": "with the phase `running` it has the last of them",
}
"""What `to_session` goes by and no session changes while it runs, and why."""
LOCATION = Location(host="127.0.0.1", port=1, url="tcp://127.0.0.1:1", format="json")
LAST = ("segmentation",)
CHANGES: dict[str, Callable[[SessionRecord], object]] = {
    "plan": lambda r: setattr(r, "plan", make_plan(SessionStartParams(count=6), Config().pipelines, 1)),
    "owner": lambda r: setattr(r, "owner", "somebody else"),
    "expires": lambda r: r.set_end(None, Clock()),
    "end": lambda r: setattr(r, "end", 1e9),
    "unread": lambda r: setattr(r, "unread", False),
    "location": lambda r: setattr(r, "location", LOCATION),
    "plain_location": lambda r: setattr(r, "plain_location", LOCATION),
    "warm": lambda r: setattr(r, "warm", True),
    "missing": lambda r: setattr(r, "missing", LAST),
    "attached": lambda r: (r.observed.reports.update(stream=Report(frames=3)), setattr(r, "attached", LAST)),
    "timings": lambda r: r.timings.update(attach=1.0),
    "containers": lambda r: r.provisioned.containers.pop("segmentation"),
    "exits": lambda r: r.observed.exits.update(probe=StageState("c", "exited", 0)),
    "reports": lambda r: r.observed.reports.update(segmentation=Report(frames=3)),
}  # fmt: skip


PARTS = {"provisioned": Provisioned, "observed": Observed}


def traced(cls: type[Any], read: set[str]) -> type[Any]:
    """Return a class whose objects note in ``read`` which of their members are read."""

    class Traced(cls):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name in cls.__dataclass_fields__ and name not in PARTS:
                read.add(name)
            return super().__getattribute__(name)

    return Traced


def running(read: set[str] | None = None) -> SessionRecord:
    plan = make_plan(SessionStartParams(count=5), Config().pipelines, 1)
    clock, seen = Clock(), set() if read is None else read
    queued: dict[Any, float] = {"queued": clock.wall()}
    record: SessionRecord = traced(SessionRecord, seen)(
        "EE705B6538693C50", plan, SessionStartParams(), "local", queued
    )
    for name, cls in PARTS.items():
        setattr(record, name, traced(cls, seen)())
    record.phases["running"], record.moments["running"] = clock.wall(), clock.now()
    record.phase, record.unread = "running", True
    record.provisioned.containers = {name: name for name in plan.stages}
    record.set_end(clock.now() + 60, clock)
    return record


def read_by(look: Callable[[SessionRecord], object]) -> set[str]:
    read: set[str] = set()
    record = running(read)
    read.clear()
    look(record)
    return read


async def test_whatever_is_shown_of_a_running_session_is_looked_at_before_it_is_shown_again() -> (
    None
):
    """A member that is added to `to_session` has to be one of `shown_by`, too, or never change."""
    shown = read_by(lambda record: to_session(record, Clock()))
    looked_at = read_by(lambda record: shown_by(record, Clock()))
    assert shown - looked_at - STILL.keys() == set()
    assert shown - STILL.keys() <= CHANGES.keys()


@pytest.mark.parametrize("name", CHANGES)
async def test_session_that_is_shown_otherwise_is_not_the_same(name: str) -> None:
    clock = Still()
    record = running()
    before, key = to_session(record, clock), shown_by(record, clock)
    assert (to_session(record, clock), shown_by(record, clock)) == (before, key)
    CHANGES[name](record)
    after: Session = to_session(record, clock)
    assert after != before, f"the change of {name} shows nothing"
    assert shown_by(record, clock) != key


class Still(Clock):
    """A clock that shows one moment for ever."""

    def __init__(self) -> None:
        self._now, self._wall = super().now(), super().wall()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall
