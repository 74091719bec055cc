# SPDX-License-Identifier: MIT
"""Start latency: from the request to a segmented session's stream header and first frame, at the requester.

Every competitor starts the same images with the same environment on the same engine, publishes the
segmentation server's port on 127.0.0.1, and is removed before the next one has its turn.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from daemons import PATIENCE, BenchFailed, Daemon, scratch
from engine_api import LABEL, RUN, EngineApi
from header import first_frame
from on_docker import each_stage, operatord_on_docker, shipped
from starts_compose import Compose, has_compose
from starts_floor import Floor
from starts_original import Original
from tables import Table

REFERENCE = "original's way (docker-py)"
NOTES = [
    "operatord's containers carry limits (cpus, memory, pids) and hardening (no capabilities,",
    "read-only root, private tmpfs, init, bounded logs) and its times include admission and its own",
    "verification of the stream; the others run the bare images without any of that.",
    "as shipped: stages run and wait while their network is made; the floor's, late, need none: they",
    "find each other on the loopback that they share, and the network only brings the published port.",
    "late_bind off: they start when it is there; spare network: the same with slots.networks 1;",
    "with a way out: as shipped, with egress lan, so that the network is not closed.",
]
STOP_NOTES = [
    "operatord: SIGTERM, logs kept, removal proven; compose: down -t 2; the others: forced removal.",
]


class Competitor(Protocol):
    """A way to start a session."""

    def start(self) -> tuple[str, int]:
        """Ask for the session; return where its stream is, or will be."""
        ...

    def stop(self) -> None:
        """Remove all of it."""
        ...


class Session:
    """operatord over its socket."""

    def __init__(self, daemon: Daemon, pipeline: str) -> None:
        self._daemon = daemon
        self._pipeline = pipeline
        self._id: str | None = None

    def start(self) -> tuple[str, int]:
        """Ask for a session and be told when it delivers."""
        session = self._daemon.call("session.start", pipeline=self._pipeline)
        self._id = session["session_id"]
        self.warm: bool = session["warm"]
        return session["location"]["host"], session["location"]["port"]

    def stop(self) -> None:
        """Ask for its end and be told when it is gone."""
        if self._id is not None:
            self._daemon.call("session.stop", session_id=self._id)
            self._id = None


class SpareSession(Session):
    """The same where a network was made beforehand, which is none of the time of a start."""

    def __init__(self, daemon: Daemon, pipeline: str) -> None:
        super().__init__(daemon, pipeline)
        self.rest()

    def rest(self) -> None:
        """Return when there is a network for the next one. Raises `BenchFailed`."""
        deadline = time.monotonic() + PATIENCE
        while not self._daemon.call("system.status")["networks"]["ready"]:
            if time.monotonic() > deadline:
                raise BenchFailed("there is no spare network")
            time.sleep(0.05)


class Tables:
    """One measurement goes into two tables: when the stream's header came, and when the first frame's."""

    def __init__(self, name: str, title: str, notes: list[str], *, paired: bool = True) -> None:
        self.header = Table(
            f"{name}.header", f"{title}: request to stream header", "ms", REFERENCE, paired=paired
        )
        self.frame = Table(
            name, f"{title}: request to first frame", "ms", REFERENCE, notes=notes, paired=paired
        )

    def add(self, name: str, competitor: Competitor) -> None:
        """Start it and read to its first frame."""
        begun = time.perf_counter()
        header, frame = first_frame(*competitor.start())
        self.header.add(name, (header - begun) * 1000)
        self.frame.add(name, (frame - begun) * 1000)


def measure(engine: EngineApi, url: str, rounds: int) -> list[Table]:
    """Return the times to start and to stop."""
    start = Tables("start", "start", NOTES)
    stop = Table("stop", "stop: request to everything gone", "ms", REFERENCE, notes=STOP_NOTES)
    with ExitStack() as stack:
        stack.callback(engine.sweep, f"{LABEL}={RUN}")
        competitors = _competitors(stack, engine, url)
        if rounds > 1:
            unseen = Tables("", "", [])  # caches are warm for everyone
            for name, competitor in competitors.items():
                _one(name, competitor, unseen)
        for _ in range(rounds):
            for name, competitor in competitors.items():
                stop.add(name, _one(name, competitor, start))
    return [start.header, start.frame, stop]


def _competitors(stack: ExitStack, engine: EngineApi, url: str) -> dict[str, Competitor]:
    pipelines = {
        "segmented": shipped("segmented"),
        "ordinary": each_stage(shipped("segmented"), late_bind="off"),
        "separate": shipped("segmented", network="separate"),
        "open": each_stage(shipped("segmented"), egress="lan"),
    }
    spares = {"pipelines": {"ordinary": pipelines["ordinary"]}, "slots": {"networks": 1}}
    daemon = stack.enter_context(operatord_on_docker(engine, url, {"pipelines": pipelines}))
    spare = stack.enter_context(operatord_on_docker(engine, url, spares))
    found: dict[str, Competitor] = {
        "operatord, as shipped": Session(daemon, "segmented"),
        "operatord, late_bind off": Session(daemon, "ordinary"),
        "operatord, spare network": SpareSession(spare, "ordinary"),
        "operatord, separate": Session(daemon, "separate"),
        "operatord, with a way out": Session(daemon, "open"),
        "API floor, separate": stack.enter_context(contextlib.closing(Floor(url, shared=False))),
        "API floor, shared": stack.enter_context(contextlib.closing(Floor(url, shared=True))),
        "API floor, shared, late": stack.enter_context(
            contextlib.closing(Floor(url, shared=True, late=True))
        ),
        REFERENCE: stack.enter_context(contextlib.closing(Original(url))),
    }
    if has_compose():
        found["docker-compose up"] = Compose(url, stack.enter_context(scratch()))
    return found


def _one(name: str, competitor: Competitor, tables: Tables) -> float:
    """Start, read to a frame, stop; return how long the stop took, in ms."""
    try:
        tables.add(name, competitor)
    except BaseException:
        competitor.stop()
        raise
    stopped = timed(competitor.stop)
    if isinstance(competitor, SpareSession):
        competitor.rest()  # or the next one's time would have the work for it
    return stopped


def timed(work: Callable[[], object]) -> float:
    """Return how many ms it takes."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000
