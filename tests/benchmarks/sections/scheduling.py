# SPDX-License-Identifier: MIT
"""The scheduler alone: what one decision takes with ever more requests waiting, and what it comes to.

The core runs in this process, without engine or socket. The jobs are those of `operatord simulate`.
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from daemons import BenchFailed
from tables import Table

from operatord.core.scheduling import scheduler
from operatord.core.scheduling.ledger import Ask, State
from operatord.simulation.node import Plan, PolicyName, capacity, settings
from operatord.simulation.report import make_report
from operatord.simulation.run import simulate
from operatord.simulation.trace import Job, Synthetic, synthetic

CAPACITY = capacity(cpus=16_000, memory=16 * 2**30, places=256)
ENDLESS = 10**9
"""Jobs; a benchmark takes as many as it needs."""


class Mix(NamedTuple):
    """Who asks, and how urgently."""

    owners: int = 8
    flood: float = 1.0
    priorities: int = 0
    """Levels among which requests are spread evenly; 0: as the simulation does, nine in ten the same."""


MIXES = {
    "8 owners": Mix(),
    "1,000 owners": Mix(owners=1000),
    "1 of 8 owners floods": Mix(flood=100),
    "21 priorities": Mix(priorities=21),
}
USUAL = "8 owners"


class FullMachine:
    """One with a queue that is kept at one length; time goes on with each end."""

    def __init__(self, mix: Mix, queued: int) -> None:
        self._queued = queued
        self._state = State(settings(Plan(1, CAPACITY)))
        self._jobs = jobs(mix)
        self._ends: list[tuple[float, str]] = []
        self._asked: dict[str, float] = {}
        """Seconds, for those who wait."""
        self._now, self._number = 0.0, 0
        while self._state.length < queued:
            self._submit()

    def turn(self) -> tuple[float, list[float]]:
        """Let one session end and others come in; return the seconds of each decision."""
        self._now, session_id = heapq.heappop(self._ends)
        released = self._decide(scheduler.Released(session_id))
        submitted = []
        while self._state.length < self._queued or not submitted:
            submitted.append(self._submit())
        return released, submitted

    def _submit(self) -> float:
        job = next(self._jobs)
        self._number += 1
        session_id = f"s{self._number}"
        self._asked[session_id] = job.seconds
        ask = Ask(session_id, job.owner, job.need, (), job.priority, seconds=job.seconds)
        return self._decide(scheduler.Submitted(ask))

    def _decide(self, event: scheduler.Event) -> float:
        begun = time.perf_counter()
        actions = scheduler.decide(self._state, event, self._now)
        taken = time.perf_counter() - begun
        for action in actions:
            if isinstance(action, scheduler.Start):
                end = self._now + self._asked.pop(action.session_id)
                heapq.heappush(self._ends, (end, action.session_id))
        return taken


def jobs(mix: Mix) -> Iterator[Job]:
    """Yield the jobs of a mix, without end."""
    wanted = Synthetic(ENDLESS, CAPACITY, owners=mix.owners, flood=mix.flood)
    for number, job in enumerate(synthetic(wanted)):
        yield job._replace(priority=number % mix.priorities) if mix.priorities else job


def measure(rounds: int, short: bool) -> list[Table]:
    """Return what decisions take, what they come to, and how long a long simulation is."""
    sizes, turns = ((100, 1000), 50) if short else ((1000, 10_000, 100_000), 400)
    found = []
    for name, mix in MIXES.items():
        found += decisions(name, mix, sizes, rounds, turns)
    sessions = 1000 if short else 100_000
    return [*found, *outcomes(sessions), million(5000 if short else 1_000_000)]


def decisions(
    name: str, mix: Mix, sizes: tuple[int, ...], rounds: int, turns: int
) -> Iterator[Table]:
    """Yield one mix's tables: the usual one's with the parts apart."""
    slug = name.replace(" ", "-").replace(",", "")
    turn = _table(f"scheduling.turn.{slug}", f"{name}: an end, and who comes in for it", sizes)
    submit = _table("scheduling.submit", f"{name}: decision about a request", sizes)
    release = _table("scheduling.release", f"{name}: decision about an end", sizes)
    release.notes.append("the end of a large session may start dozens of small ones: one decision")
    benches = {f"{size:,} wait": FullMachine(mix, size) for size in sizes}
    for _ in range(rounds):
        for row, bench in benches.items():
            for _ in range(turns):
                released, submitted = bench.turn()
                release.add(row, released * 1e6)
                submit.add(row, *(seconds * 1e6 for seconds in submitted))
                turn.add(row, (released + sum(submitted)) * 1e6)
    yield from (submit, release, turn) if name == USUAL else (turn,)


def _table(name: str, title: str, sizes: tuple[int, ...]) -> Table:
    return Table(name, title, "µs", f"{sizes[0]:,} wait", paired=False)


def outcomes(sessions: int) -> list[Table]:
    """Return how full the machine was and how even the shares, by the daemon's rules and first come."""
    full = Table("scheduling.utilisation", "the scarcest dimension in use", "%", "fifo")
    even = Table("scheduling.jain", "Jain's index of 8 owners, × 100", "%", "fifo")
    for table in (full, even):
        table.more_is_better = True
        table.notes.append(f"one simulation of {sessions:,} sessions at load 1.1 each")
    even.notes.append("flooded: one owner asks for ten times as much as each other one")
    policies: tuple[PolicyName, ...] = ("easy", "fifo")
    for label, flood in (("", 1.0), (", flooded", 10.0)):
        for policy in policies:
            wanted = Synthetic(sessions, CAPACITY, flood=flood)
            report = make_report(simulate(Plan(1, CAPACITY, policy), synthetic(wanted)))
            full.add(policy + label, 100 * report.utilisation[report.scarcest])
            even.add(policy + label, 100 * report.jain)
    return [full, even]


def million(sessions: int) -> Table:
    """Return how long one long simulation takes, in a process of its own."""
    command = [sys.executable, "-m", "operatord", "simulate", "--json", "--sessions", str(sessions)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"operatord simulate: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    easy = report["policies"]["easy"]
    table = Table("scheduling.simulation", f"simulating {sessions:,} sessions", "s", "processor")
    table.add("wall clock", easy["cost"]["wall_seconds"])
    table.add("processor", easy["cost"]["cpu_seconds"])
    table.notes.append(
        f"{easy['decisions']:,} decisions, up to {easy['longest_queue']:,} waiting, "
        f"{report['peak_rss_bytes'] / 2**20:,.0f} MiB at most"
    )
    return table
