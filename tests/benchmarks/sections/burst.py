# SPDX-License-Identifier: MIT
"""Many cold starts at once: how long all of them take, and what others notice of it meanwhile.

The floor makes the same topologies, so many of them at a time; it is not known beforehand how many
suit an engine best, so several numbers are tried.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import shared_host
from daemons import PROGRAMS, BenchFailed, Daemon, cpu_seconds, process, scratch, script, until
from engine_api import LABEL, RUN, EngineApi
from header import first_header
from on_docker import operatord_on_docker, shipped
from starts import Competitor, Session, timed
from starts_floor import Floor, Place
from tables import Table

OURS, OWN = "operatord", "operatord, the daemon itself"
IDLE, BUSY = "operatord, idle", "operatord, in the burst"
PARALLEL = 4
"""Topologies that the floor makes at a time while others are stopped."""
NOTHING = contextlib.nullcontext()
STOP_PAUSE = 0.5
"""Seconds before each stop in a burst."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    sessions: int
    """Started at once."""
    floors: tuple[tuple[int, bool], ...]
    """For each of these, the floor makes so many topologies at a time, connected late or not."""
    stop_among: int
    """Started at once while others are stopped."""
    stops: int
    idle: float
    """Seconds of pings with nothing else going on."""


FULL = Size(
    sessions=30,
    floors=((2, True), (3, True), (4, True), (8, True), (4, False)),
    stop_among=10,
    stops=3,
    idle=3.0,
)
SHORT = Size(sessions=2, floors=((2, True),), stop_among=1, stops=1, idle=0.5)


@dataclass
class Bursts:
    """Who takes part, and what was measured of it."""

    daemon: Daemon
    echo: tuple[str, int]
    floors: dict[bool, list[Floor]]
    """Those that connect late, and those that do not."""
    size: Size
    all: Table = field(init=False)
    work: Table = field(init=False)
    pings: Table = field(init=False)
    stops: Table = field(init=False)

    def __post_init__(self) -> None:
        title = f"{self.size.sessions} cold starts at once, until the last one's stream header"
        self.all = Table("burst", title, "s", OURS)
        self.work = Table("burst.cpu", "processor time meanwhile", "s", OURS)
        self.pings = Table("burst.ping", "a ping meanwhile", "ms", IDLE, paired=False)
        self.stops = Table("burst.stop", "a stop meanwhile: until gone", "ms", IDLE, paired=False)

    def starts(self, turn: int) -> None:
        """Let everybody have a burst, with somebody who looks on; who begins changes with ``turn``."""
        self._idle(IDLE, self.daemon.address)
        self._idle("bare echo, idle", self.echo)
        bursts: list[Callable[[], None]] = [self._own_burst]
        bursts += [partial(self._floor_burst, *each) for each in self.size.floors]
        first = turn % len(bursts)
        for each in bursts[first:] + bursts[:first]:
            each()

    def _own_burst(self) -> None:
        sessions = self._sessions(self.size.sessions)
        own = self._working(OWN, partial(cpu_seconds, self.daemon.pid))
        meanwhile = self._watched(OURS, BUSY, self.daemon.address, own)
        self.all.add(OURS, burst(sessions, len(sessions), meanwhile))

    def _floor_burst(self, parallel: int, late: bool) -> None:
        row = f"API floor{', late' if late else ''}, {parallel} at a time"
        floors = self.floors[late][: self.size.sessions]
        meanwhile = self._watched(row, "bare echo, in the floor's", self.echo)
        self.all.add(row, burst(floors, parallel, meanwhile))

    @contextlib.contextmanager
    def _watched(
        self,
        row: str,
        pings: str,
        address: tuple[str, int],
        own: AbstractContextManager[None] = NOTHING,
    ) -> Iterator[None]:
        """Note what a burst takes of the machine, and how quickly a server answers meanwhile."""
        with self._looking(pings, address), self._working(row, _machine_seconds), own:
            yield

    @contextlib.contextmanager
    def _working(self, row: str, used: Callable[[], float]) -> Iterator[None]:
        before = used()
        yield
        self.work.add(row, used() - before)

    def stopping(self) -> None:
        """Stop what ran before, with nothing else going on and while others are started."""
        self._stop_each(IDLE, BUSY, self._sessions, self.size.stop_among)
        self._stop_each("API floor, idle", "API floor, in its own", self._some_floors, PARALLEL)

    def _idle(self, row: str, address: tuple[str, int]) -> None:
        with self._looking(row, address):
            time.sleep(self.size.idle)

    @contextlib.contextmanager
    def _looking(self, row: str, address: tuple[str, int]) -> Iterator[None]:
        """Have a server pinged meanwhile."""
        path, (host, port) = PROGRAMS / "pinger.py", address
        with scratch() as folder:
            log = folder / "pings"
            with process(sys.executable, str(path), host, str(port), log=log) as child:
                until(child, log, lambda said: said.startswith(b"["))
                yield
            self.pings.add(row, *_pings(log.read_text("utf-8")))

    def _stop_each(
        self,
        idle: str,
        busy: str,
        some: Callable[[int], Sequence[Competitor]],
        parallel: int,
    ) -> None:
        count = self.size.stops
        everyone = some(count + self.size.stop_among)
        first, others = everyone[:count], everyone[count:]
        with _running(first):
            for each in first:
                self.stops.add(idle, timed(each.stop))
        with _running(first), ThreadPoolExecutor(1) as beside:
            stopping = beside.submit(lambda: [_stop_soon(each) for each in first])
            burst(others, parallel)
            self.stops.add(busy, *stopping.result())

    def _sessions(self, count: int) -> list[Session]:
        return [Session(self.daemon, "segmented") for _ in range(count)]

    def _some_floors(self, count: int) -> list[Floor]:
        return self.floors[True][:count]


def measure(engine: EngineApi, url: str, rounds: int, short: bool) -> list[Table]:
    """Return how long bursts take, and pings and stops during them."""
    with ExitStack() as stack:
        stack.callback(engine.sweep, f"{LABEL}={RUN}")
        daemon = stack.enter_context(operatord_on_docker(engine, url, _config()))
        block = stack.enter_context(shared_host.block())
        floors = {
            late: [
                stack.enter_context(
                    contextlib.closing(Floor(url, shared=True, late=late, place=place))
                )
                for place in _places(block, FULL.sessions)
            ]
            for late in (True, False)
        }
        echo = stack.enter_context(script("echo.py"))
        bursts = Bursts(daemon, echo, floors, SHORT if short else FULL)
        for turn in range(rounds):
            bursts.starts(turn)
        bursts.stopping()
    return _noted(bursts)


def _config() -> dict[str, Any]:
    # A machine that is busy for half a minute starts nothing new: sensible, but not what is measured.
    config: dict[str, Any] = {"pressure": {"cpu": None}, "limits": {"sessions": 64}}
    return config | {"pipelines": {"segmented": shipped("segmented")}, "shutdown_timeout": 55}


def _places(block: ipaddress.IPv4Network, count: int) -> list[Place]:
    subnets = block.subnets(new_prefix=28)
    return [Place(str(next(subnets)), f"127.0.1.{number + 1}") for number in range(count)]


def burst(
    competitors: Sequence[Competitor],
    parallel: int,
    meanwhile: AbstractContextManager[None] = NOTHING,
) -> float:
    """Start all, ``parallel`` at a time; return the seconds until all deliver. Afterwards they are gone."""
    with ThreadPoolExecutor(parallel, "burst") as pool:
        try:
            with meanwhile:
                return timed(lambda: _each(pool, competitors, _until_header)) / 1000
        finally:
            _each(pool, competitors, lambda each: each.stop())


@contextlib.contextmanager
def _running(competitors: Sequence[Competitor]) -> Iterator[None]:
    """Have all of them run, one started after the other."""
    try:
        for each in competitors:
            _until_header(each)
        yield
    finally:
        for each in competitors:
            each.stop()


def _each(
    pool: ThreadPoolExecutor,
    competitors: Sequence[Competitor],
    work: Callable[[Competitor], object],
) -> None:
    """Do it for all of them. Raises what the first raises that fails, once nothing is under way."""
    calls = [pool.submit(work, each) for each in competitors]
    try:
        wait(calls, return_when=FIRST_EXCEPTION)
    finally:
        for call in calls:
            call.cancel()
        wait(calls)
    for call in calls:
        if not call.cancelled():
            call.result()


def _until_header(competitor: Competitor) -> None:
    first_header(*competitor.start())


def _machine_seconds() -> float:
    """Return the processor time that the whole machine has used."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _pings(printed: str) -> list[float]:
    try:
        taken: list[float] = json.loads(printed)
    except ValueError as exc:
        raise BenchFailed(f"the pings broke off: {printed}") from exc
    return taken


def _stop_soon(competitor: Competitor) -> float:
    time.sleep(STOP_PAUSE)
    return timed(competitor.stop)


def _noted(bursts: Bursts) -> list[Table]:
    rows = bursts.all.samples
    floors = {row: statistics.median(values) for row, values in rows.items() if row != OURS}
    best = min(floors, key=lambda row: floors[row])
    bursts.all.reference = bursts.work.reference = best
    bursts.all.notes += [
        f"× is against the floor at its best: {best}. Raw API calls, in ranges of its own; a",
        "container without limits or hardening costs an engine less. operatord: as shipped, but for",
        "pressure.cpu, which would hold starts back once the machine has been busy for half a minute",
    ]
    bursts.work.notes += [
        "of the whole machine, engine and stages included, from the first request to the last header",
    ]
    worst = ", ".join(f"{row} {max(values):.1f}" for row, values in bursts.pings.samples.items())
    bursts.pings.notes += [
        f"the slowest: {worst}",
        "bare echo: the same pings while the floor makes its topologies, on the same machine",
    ]
    bursts.stops.notes.append(
        f"of sessions that ran before, one by one while {bursts.size.stop_among} more are started at once"
    )
    return [bursts.all, bursts.work, bursts.pings, bursts.stops]
