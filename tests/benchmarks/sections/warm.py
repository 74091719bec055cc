# SPDX-License-Identifier: MIT
"""Warm starts: from the request to the stream header and to the first frame's, beside cold starts.

Before each measurement all that was there before is gone and all slots are ready, so that nothing else
is being made. Where several starts come in a row, that is so only before the first of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from daemons import PATIENCE, BenchFailed, Daemon
from engine_api import LABEL, RUN, EngineApi
from on_docker import each_stage, operatord_on_docker, shipped
from starts import REFERENCE, Competitor, Session, Tables
from starts_floor import Floor
from starts_original import Original
from tables import Table

NATIVE, SHIM, COLD = "operatord, warm", "operatord, warm, shell", "operatord, cold"
HOW = [
    "request sent to first frame's header received, by a requester that only reads. Before each",
    "start the sessions before it are gone and the slots are ready.",
]
NOTES = [
    *HOW,
    "shell: the stages do not know late binding, and wait behind the shim. The floor and the",
    "original's way run the bare images without the limits and the hardening that operatord's",
    "containers have.",
]


class WarmSession(Session):
    """A session that must come from a slot."""

    def start(self) -> tuple[str, int]:
        """Ask for a session. Raises `BenchFailed` if it was made for this request."""
        location = super().start()
        if not self.warm:
            raise BenchFailed("a start that should find a slot was a cold one")
        return location


class SlotTables(Tables):
    """The same, measured with nothing else being made."""

    def add_alone(self, daemon: Daemon, name: str, competitor: Competitor) -> None:
        """Do it with the slots ready before and all of it gone after."""
        await_slots(daemon)
        try:
            self.add(name, competitor)
        finally:
            competitor.stop()


def measure(engine: EngineApi, url: str, rounds: int, short: bool) -> list[Table]:
    """Return the times of single starts, and of several with nothing between them."""
    rows, slots = (1, 1) if short else (max(1, rounds // 3), 6)
    with ExitStack() as stack:
        stack.callback(engine.sweep, f"{LABEL}={RUN}")
        original = stack.enter_context(contextlib.closing(Original(url)))
        found = [
            _singly(engine, url, original, rounds, 1 if short else 4),
            _in_a_row(engine, url, original, rows, slots),
        ]
    return [table for both in found for table in (both.header, both.frame)]


def measure_engine(engine: EngineApi, url: str, rounds: int) -> list[Table]:
    """Return what is asked of every engine: starts with and without a slot, beside the original's way."""
    segmented = shipped("segmented")
    pipelines = {"segmented": segmented | {"warm": 1}, "cold": segmented}
    tables = SlotTables("warm", "warm start", HOW, paired=False)
    with ExitStack() as stack:
        stack.callback(engine.sweep, f"{LABEL}={RUN}")
        original = stack.enter_context(contextlib.closing(Original(url)))
        daemon = stack.enter_context(operatord_on_docker(engine, url, _config(pipelines)))
        competitors: dict[str, tuple[int, Competitor]] = {
            NATIVE: (2, WarmSession(daemon, "segmented")),
            COLD: (1, Session(daemon, "cold")),
            REFERENCE: (1, original),
        }
        _in_turn(daemon, competitors, tables, rounds)
    return [tables.header, tables.frame]


def _in_turn(
    daemon: Daemon,
    competitors: Mapping[str, tuple[int, Competitor]],
    tables: SlotTables,
    rounds: int,
) -> None:
    """Measure each competitor as often as it says, in each round."""
    for _ in range(rounds):
        for name, (times, competitor) in competitors.items():
            for _ in range(times):
                tables.add_alone(daemon, name, competitor)


def _singly(
    engine: EngineApi, url: str, original: Original, rounds: int, native: int
) -> SlotTables:
    """Measure each competitor in turn; ``native`` warm starts in each round, half as many by shell."""
    segmented = shipped("segmented")
    pipelines = {
        "segmented": segmented | {"warm": 1},
        "shim": each_stage(segmented, late_bind="shim") | {"warm": 1},
        "cold": segmented,
    }
    tables = SlotTables("warm", "warm start", NOTES, paired=False)
    with ExitStack() as stack:
        daemon = stack.enter_context(operatord_on_docker(engine, url, _config(pipelines)))
        competitors: dict[str, tuple[int, Competitor]] = {
            NATIVE: (native, WarmSession(daemon, "segmented")),
            SHIM: (max(1, native // 2), WarmSession(daemon, "shim")),
            COLD: (1, Session(daemon, "cold")),
        }
        if _has_floor(daemon):
            shared = stack.enter_context(contextlib.closing(Floor(url, shared=True, late=True)))
            competitors["API floor, shared, late"] = (1, shared)
        else:
            tables.frame.notes = [
                *NOTES,
                "This engine cannot do what the floor does: it is left out.",
            ]
        competitors[REFERENCE] = (1, original)
        _in_turn(daemon, competitors, tables, rounds)
    return tables


def _has_floor(daemon: Daemon) -> bool:
    """Tell whether the engine can make stages at once and connect them late."""
    able = daemon.call("system.status")["engine"]["capabilities"]
    return bool(able["joins_by_name"] and able["connects_late"])


def _in_a_row(
    engine: EngineApi, url: str, original: Original, rounds: int, slots: int
) -> SlotTables:
    """Measure as many starts one after the other as there are slots, with no stop in between."""
    notes = [f"{slots} slots are ready before the first; nobody waits for refills between"]
    tables = SlotTables("warm.row", f"{slots} warm starts in a row", notes, paired=False)
    pipelines = {"segmented": shipped("segmented", warm=slots)}
    with operatord_on_docker(engine, url, _config(pipelines)) as daemon:
        for _ in range(rounds):
            _row(daemon, tables, slots)
            tables.add_alone(daemon, REFERENCE, original)
    return tables


def _row(daemon: Daemon, tables: SlotTables, slots: int) -> None:
    await_slots(daemon)
    sessions = [WarmSession(daemon, "segmented") for _ in range(slots)]
    try:
        for session in sessions:
            tables.add(NATIVE, session)
    finally:
        for session in sessions:
            session.stop()


def _config(pipelines: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under which no slot is held back because the benchmark keeps the machine busy."""
    return {"pipelines": pipelines, "pressure": {"cpu": None}}


def await_slots(daemon: Daemon) -> None:
    """Return when all slots are ready. Raises `BenchFailed`."""
    deadline = time.monotonic() + PATIENCE
    while not _filled(warm := daemon.call("system.status")["warm"]):
        if time.monotonic() > deadline:
            raise BenchFailed(f"the slots are not made: {warm}")
        time.sleep(0.05)


def _filled(warm: Mapping[str, Mapping[str, int]]) -> bool:
    return all(each["ready"] == each["target"] for each in warm.values())
