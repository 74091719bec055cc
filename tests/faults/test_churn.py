# SPDX-License-Identifier: MIT
"""The daemon is killed at random moments while sessions come and go.

``ROUNDS`` and ``SEED`` choose how often and which; the seed of every run is printed with its table.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import PATIENCE, Json, Refused, Wire
from fault_lab import (
    SEGMENTATION_CPUS,
    SMALL_FRAMES,
    Ground,
    Life,
    ground_with_people,
    hello,
    settings,
)

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROUNDS = int(os.environ.get("ROUNDS", "2"))
SEED = int(os.environ.get("SEED") or random.randrange(10**6))
CONFIG = settings(limits={"sessions": 8}, history={"keep": 10_000})
STAGES = ("probe", "stream", "segmentation")
CPUS = {"probe": 0.01, "stream": 0.01, "segmentation": SEGMENTATION_CPUS}
MOST = 10
"""Sessions that live or wait, the two that stay aside, from which on none is asked for."""
LATEST = 3.5
"""Seconds after which the daemon is killed at the latest."""
RECONCILED = 2 * PATIENCE
"""Seconds after which all must be in order at the latest; an orphan has ten to be claimed."""


@dataclass
class Sums:
    """What the table says."""

    seed: int = SEED
    rounds: int = 0
    kills: int = 0
    sessions_started: int = 0
    adopted: int = 0
    rolled_back: int = 0
    leaked_objects: int = 0
    disturbed_sessions: int = 0
    foreign_touched: int = 0
    recovery_p50: float = 0.0
    recovery_max: float = 0.0
    recoveries: list[float] = field(default_factory=list)

    def table(self) -> list[str]:
        """Return it for people, and as a line for programs."""
        times = self.recoveries or [0.0]
        self.recovery_p50 = round(statistics.median(times), 3)
        self.recovery_max = round(max(times), 3)
        figures = {name: value for name, value in asdict(self).items() if name != "recoveries"}
        lines = [f"{name.replace('_', ' '):<20}{value:>10}" for name, value in figures.items()]
        return ["killed while sessions come and go", *lines, json.dumps(figures)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder: Path = tmp_path_factory.mktemp("churn")
    with ground_with_people(folder, count=800 + 250 * ROUNDS) as ground:
        yield ground


class Crowd:
    """Those who ask for sessions, and what they have been promised."""

    def __init__(self, chance: random.Random, staying: set[str]) -> None:
        """Those ``staying`` are nobody's to end."""
        self._chance = chance
        self._staying = staying
        self.promised: dict[str, Json] = {}
        """Sessions that were said to run, and that nobody has asked to end."""
        self.given_up: set[str] = set()
        """Sessions that somebody has asked to end."""

    async def come_and_go(self, life: Life) -> None:
        """Ask for this and that all at once, and have the daemon killed some time later."""
        wires = [await life.wire() for _ in range(self._chance.randint(1, 4))]
        living = await living_sessions(wires[0], self._staying)
        deeds = [self._deed(len(living)) for _ in wires]
        moment = self._chance.uniform(0.02, LATEST)
        asyncio.get_running_loop().call_later(moment, life.served.process.kill)
        doings = [self._until_killed(deed, wire) for deed, wire in zip(deeds, wires, strict=True)]
        await asyncio.gather(*doings)
        await life.died()

    def _deed(self, living: int) -> Callable[[Wire], Awaitable[None]]:
        if living >= MOST:
            return self.stop
        deeds = [self.start, self.start, self.degraded, self.degraded, self.accepted]
        return self._chance.choice([*deeds, self.leased, self.cancelled, self.stop])

    async def _until_killed(self, deed: Callable[[Wire], Awaitable[None]], wire: Wire) -> None:
        """Do the same thing again and again."""
        try:
            while True:
                await deed(wire)
        except (OSError, AssertionError):
            pass  # the connection has ended; what is wrong otherwise is seen by the next life

    def _request(self, **more: Any) -> Json:
        plain = self._chance.random() < 0.5
        return {"count": 1000, "env": SMALL_FRAMES, "plain_stream": plain, **more}

    async def start(self, wire: Wire) -> None:
        await self._promise(wire, self._request(on_shortage="refuse"))

    async def degraded(self, wire: Wire) -> None:
        await self._promise(wire, self._request(on_shortage="degrade", plain_stream=False))

    async def _promise(self, wire: Wire, request: Json) -> None:
        try:
            session = await wire.call("session.start", **request)
        except Refused:
            await self.stop(wire)
        else:
            if session["session_id"] not in self.given_up:
                self.promised[session["session_id"]] = session

    async def accepted(self, wire: Wire) -> None:
        """Let it be queued or started, and ask later."""
        session = await wire.call("session.start", **self._request(wait="accepted"))
        with contextlib.suppress(Refused):
            await wire.call("session.wait", session_id=session["session_id"], phase="running")

    async def leased(self, wire: Wire) -> None:
        """Let it end with the connection."""
        try:
            await wire.call(
                "session.start", **self._request(lease="connection", on_shortage="refuse")
            )
        except Refused:
            await self.stop(wire)

    async def cancelled(self, wire: Wire) -> None:
        """Change one's mind while it is being started."""
        request = wire.begin("session.start", **self._request())
        await wire.note(lambda note: note.get("stage") in ("queue", "create", "start"))
        wire.begin("request.cancel", id=request)
        for _ in range(2):
            while "method" in await wire.line():
                pass
        await self.start(wire)

    async def stop(self, wire: Wire) -> None:
        """End any session but the two that stay."""
        others = await living_sessions(wire, self._staying)
        if not others:
            await self.start(wire)
            return
        session_id = self._chance.choice(others)
        self.given_up.add(session_id)
        self.promised.pop(session_id, None)
        try:
            await wire.call("session.stop", session_id=session_id)
        except Refused as refused:
            assert refused.type == "not_found"


class Books:
    """What the daemon says that it has, next to what there is."""

    def __init__(self, ground: Ground, sessions: list[Json], status: Json) -> None:
        self.sessions = {each["session_id"]: each for each in sessions}
        self.living = {k: each for k, each in self.sessions.items() if each["phase"] != "ended"}
        self.present = {k: each for k, each in self.living.items() if each["phase"] != "queued"}
        self._reserved = status["reserved"]
        self._there = {each["Id"] for each in ground.engine.containers(ground.instance)}
        self._there |= {each["Name"] for each in ground.engine.networks(ground.instance)}

    @classmethod
    async def open(cls, ground: Ground, wire: Wire) -> Books:
        sessions = await all_sessions(wire)
        return cls(ground, sessions, await wire.call("system.status"))

    def _accounted(self) -> set[str]:
        """Return the containers and networks that sessions speak of."""
        found = {each["network"] for each in self.present.values()}
        return found | {c for each in self.present.values() for c in containers(each).values()}

    @property
    def leaked(self) -> set[str]:
        return self._there - self._accounted()

    def discrepancies(self) -> list[str]:
        """Return what is not as it should be, or not yet."""
        phases = {each["phase"] for each in self.present.values()}
        cpus = sum(CPUS[stage] for each in self.present.values() for stage in containers(each))
        facts = {
            f"left: {self.leaked}": not self.leaked,
            f"missing: {self._accounted() - self._there}": self._accounted() <= self._there,
            f"phases: {phases}": phases <= {"running"},
            f"reserved: {self._reserved}": self._reserved["sessions"] == len(self.present)
            and abs(self._reserved["cpus"] - cpus) < 0.001,
        }
        return [what for what, holds in facts.items() if not holds]


def containers(session: Json) -> dict[str, str]:
    return {stage: session[stage] for stage in STAGES if stage in session}


def went_wrong(session: Json) -> bool:
    """Tell whether a session failed, but by the death of the daemon while it was begun."""
    return session.get("outcome") == "failed" and session["cause"] != "restart"


async def settled(ground: Ground, life: Life) -> Books:
    """Return the books once they agree with what there is, or do not for too long."""
    wire = await life.wire()
    deadline = time.monotonic() + RECONCILED
    while (books := await Books.open(ground, wire)).discrepancies():
        if time.monotonic() > deadline:
            break
    return books


class Storm:
    """Round after round, each with a life of the daemon that ends in the middle of something."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._staying = {each["session_id"] for each in ground.living}
        self.crowd = Crowd(random.Random(SEED), self._staying)
        self.sums = Sums()

    async def round(self) -> None:
        """See what the last life has left, and let this one end in the middle of something."""
        begun = time.monotonic()
        async with self._ground.life(config=CONFIG) as life:
            await self._check(life, begun)
            await self.crowd.come_and_go(life)
        self.sums.rounds += 1
        self.sums.kills += 1

    async def _check(self, life: Life, begun: float) -> None:
        ground, sums = self._ground, self.sums
        books = await settled(ground, life)
        if sums.kills:
            sums.recoveries.append(round(time.monotonic() - begun, 3))
        sums.leaked_objects += len(books.leaked)
        sums.disturbed_sessions += len(disturbed := await self._disturbed(books))
        sums.foreign_touched += ground.neighbours.touched()
        sums.adopted += sum(each in books.living for each in self.crowd.promised)
        sums.sessions_started = sum("started" in each for each in books.sessions.values())
        causes = [each.get("cause") for each in books.sessions.values()]
        sums.rolled_back = causes.count("restart")
        assert books.discrepancies() == [], f"seed {SEED}"
        assert disturbed == [], f"seed {SEED}"
        assert [each for each in books.sessions.values() if went_wrong(each)] == []
        assert sums.foreign_touched == 0
        ground.consumer.wait_for_more()

    async def _disturbed(self, books: Books) -> list[str]:
        """Return what is otherwise with those who were promised a session."""
        promised = [*self._ground.living, *self.crowd.promised.values()]
        found = []
        for before in promised:
            now = books.living.get(before["session_id"], {"phase": "not living"})
            found += [f"{before['session_id']}: {what}" for what in await changed(before, now)]
        return found

    async def finish(self) -> None:
        """End all, and see that all is gone."""
        begun, ground = time.monotonic(), self._ground
        async with ground.life(config=CONFIG) as life:
            await self._check(life, begun)
            wire = await life.wire()
            end = await asyncio.to_thread(ground.consumer.finish)
            whole = {"type": "end", "frames": ground.consumer.count, "dropped": 0}
            assert (end, ground.consumer.trouble) == (whole, "")
            while living := [*await living_sessions(wire, set())]:
                wait = wire.begin("session.stop", session_id=living[0])
                await wire.reply(wait)
            assert ground.objects() == set()
            await life.depart()
        assert ground.neighbours.touched() == 0


async def changed(before: Json, now: Json) -> list[str]:
    """Return what of a session is not what was told of it; a segmentation may have joined it.

    One that was still being attached when it was told may have been given up, and be made again.
    """
    promised = containers(before)
    if before["degraded"]:
        promised.pop("segmentation", None)
    facts = {
        f"phase {now['phase']}": now["phase"] == "running",
        f"location {before['location']}, now {now.get('location')}": before["location"]
        in (now.get("location"), now.get("plain_location")),
        f"containers {promised}, now {containers(now)}": promised.items()
        <= containers(now).items(),
    }
    wrong = [what for what, holds in facts.items() if not holds]
    if not wrong and (said := await hello(before["location"]))["type"] != "hello":
        wrong.append(f"it begins with {said}")
    return wrong


async def living_sessions(wire: Wire, but: set[str]) -> list[str]:
    """Return the ids of the sessions that have not ended."""
    living = (each["session_id"] for each in await all_sessions(wire) if each["phase"] != "ended")
    return sorted(each for each in living if each not in but)


async def all_sessions(wire: Wire) -> list[Json]:
    """Return the sessions that there are and those that have ended, newest first."""
    found: list[Json] = []
    more: Json = {}
    while True:
        piece = await wire.call("session.list", limit=200, **more)
        found += piece["sessions"]
        if "next" not in piece:
            return found
        more = {"cursor": piece["next"]}


@pytest.mark.timeout(300 + 20 * ROUNDS)
async def test_churn_and_sudden_death_disturb_nobody_and_leave_nothing(
    ground: Ground, report: list[str]
) -> None:
    storm = Storm(ground)
    try:
        for _ in range(ROUNDS):
            await storm.round()
        await storm.finish()
    finally:
        report += storm.sums.table()
