# SPDX-License-Identifier: MIT
"""What it costs that people look at a session: the gateway's processor, the daemon's, and how soon it pings.

A session of 25 frames a second, with masks, is looked at over WebSockets by nobody, one and twenty. Those are
a process of their own, and so are the daemon, the gateway and each stage.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from control import Load
from daemons import PROGRAMS, BenchFailed, Daemon, cpu_seconds, operatord, process, scratch, until
from tables import Table

FPS = 25
COUNTS = (1, 20)
NOTHING, NOBODY = "nothing runs", "nobody looks"
PAUSE = 0.002
"""Seconds between two pings."""
ANSWERING = re.compile(rb"answering at http://([0-9.]+):([0-9]+)/")


class House(NamedTuple):
    """A daemon, its gateway, and a session that runs."""

    daemon: Daemon
    gateway: int
    address: tuple[str, int]
    session: str


class Seen(NamedTuple):
    """What a time of looking has cost."""

    gateway: float
    """Share of a core, in per cent."""
    daemon: float
    frames: float
    """Frames a second for each viewer."""
    pings: list[float]
    """Microseconds."""


def measure(rounds: int, short: bool) -> list[Table]:
    """Return tables of processor time, frames and pings."""
    gateway = Table("viewers.gateway", "the gateway, by viewers", "% of a core", _named(1))
    daemon = Table("viewers.daemon", "the daemon meanwhile", "% of a core", NOBODY)
    frames = Table("viewers.frames", "what each viewer sees", "frames/s", _named(1))
    pings = Table("viewers.ping", "system.ping meanwhile", "µs", NOTHING)
    frames.more_is_better = True
    pings.paired = False
    seconds = 1.0 if short else 4.0
    for _ in range(rounds):
        with operatord("process") as idle:
            pings.add(NOTHING, *_pings(idle, seconds))
        with _house() as house:
            for count in (0, *COUNTS):
                seen = _look(house, count, seconds)
                name = _named(count)
                daemon.add(name, seen.daemon)
                pings.add(name, *seen.pings)
                if count:
                    gateway.add(name, seen.gateway)
                    frames.add(name, seen.frames)
    gateway.notes.append(f"{FPS} frames/s of 256x256 with masks: 128 KiB each, for every viewer")
    daemon.notes.append("most of it is the pings, one every 2 ms")
    return [gateway, daemon, frames, pings]


def _named(count: int) -> str:
    return {0: NOBODY, 1: "1 viewer"}.get(count, f"{count} viewers")


@contextlib.contextmanager
def _house() -> Iterator[House]:
    with operatord("process") as daemon, scratch() as folder:
        log = folder / "gateway"
        host, port = daemon.address
        command = [sys.executable, "-m", "operatord", "gateway", "--listen", "127.0.0.1:0"]
        with process(*command, "--address", f"{host}:{port}", log=log) as child:
            found = until(child, log, ANSWERING.search)
            env = {"probe": {"fps": FPS}}
            session = daemon.call("session.start", count=1_000_000, env=env)["session_id"]
            yield House(daemon, child.pid, (found[1].decode(), int(found[2])), session)
            daemon.call("session.stop", session_id=session)


def _look(house: House, count: int, seconds: float) -> Seen:
    """Have so many look for so long."""
    with scratch() as folder, contextlib.ExitStack() as stack:
        viewers, log = None, folder / "viewers"
        if count:
            words = [*map(str, house.address), house.session, str(count)]
            program = str(PROGRAMS / "viewers.py")
            viewers = stack.enter_context(process(sys.executable, program, *words, log=log))
            until(viewers, log, re.compile(rb"looking\n").search)
        begun = time.perf_counter()
        before = cpu_seconds(house.gateway), cpu_seconds(house.daemon.pid)
        pings = _pings(house.daemon, seconds)
        after = cpu_seconds(house.gateway), cpu_seconds(house.daemon.pid)
        taken = time.perf_counter() - begun
        frames = _frames(viewers, log) / count / taken if viewers is not None else 0.0
    gateway, daemon = (100 * (b - a) / taken for a, b in zip(before, after, strict=True))
    return Seen(gateway, daemon, frames, pings)


def _frames(viewers: subprocess.Popen[bytes], log: Path) -> int:
    """Return how many frames the viewers have had, who end with that. Raises `BenchFailed`."""
    viewers.terminate()
    if viewers.wait():
        raise BenchFailed(f"the viewers did not see it to the end: {log.read_text('utf-8')}")
    return int(log.read_text("utf-8").split()[-1])


def _pings(daemon: Daemon, seconds: float) -> list[float]:
    """Return the microseconds that each of some hundred pings took."""
    load = Load.connect(daemon.address)
    taken: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        taken += [1e6 * each for each in load.one_by_one(1)]
        time.sleep(PAUSE)
    load.close()
    return taken
