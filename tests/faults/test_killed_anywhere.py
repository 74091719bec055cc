# SPDX-License-Identifier: MIT
"""The daemon is killed at every place where it is about to change something, or just has.

Two sessions live through all of it, one read all the time and one by nobody, next to objects that are
somebody else's. Each case is a life of the daemon that ends at a failpoint, during something that it does
to a third session, and one that finds what is left. Between two cases no daemon lives at all.

``FAULTS=all`` (make faults) goes through the whole matrix. Otherwise it is every operation once, and of the
rest each day another part: in ten days all have had their turn; ``FAULTS_DAY=N`` repeats a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import docker
import pytest
from daemon_lab import Json, Wire, until
from fault_lab import SMALL_FRAMES, Ground, Life, ground_with_people, hello, settings

from operatord.machine.failpoints import FAILPOINTS

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ALL = os.environ.get("FAULTS") == "all"
DAYS = 10
"""In so many days each case has been part of a run of all tests."""
TIGHT = 0.3
"""Cores with which a third session has to do without its segmentation."""

MOST_SOCKETS = 24
"""The engine's idle connections, at most 16, its streams, and ours."""

FAILED = "failed: restart"
STOPPED = "stopped: client"
RUNNING = "running"
UNKNOWN = "unknown"


class Case(NamedTuple):
    """A death, and what has become of the session that it met."""

    operation: str
    place: str
    """Which failpoint, and at which visit."""
    fate: str
    often: bool = False
    """It is part of every run of the tests."""

    def __str__(self) -> str:
        return f"{self.operation}-{self.place}"


def cases(operation: str, fate: str, *places: str) -> Iterator[Case]:
    """Yield the cases of places such as ``create 2``: the second ``create``, before and after.

    An asterisk chooses what every run goes through, of a pair what comes after.
    """
    for place in places:
        call, nth = place.strip("*").split()
        for side in ("before", "after"):
            often = place.endswith("*") and side == "after"
            yield Case(operation, f"{call}.{side}:{nth}", fate, often)


CASES = [
    # The first commit has the session, the second its location, the third says so.
    Case("start", "journal.commit.before:1", UNKNOWN),
    Case("start", "journal.commit.after:1", FAILED),
    Case("start", "journal.commit.before:2", FAILED, often=True),
    Case("start", "journal.commit.after:2", RUNNING, often=True),
    *cases("start", RUNNING, "journal.commit 3"),
    *cases("start", FAILED, "engine.image_ids 1", "engine.create_network 1*"),
    *cases("start", FAILED, "engine.create 1", "engine.create 2*", "engine.create 3"),
    *cases("start", FAILED, "engine.start 1", "engine.start 2", "engine.start 3*"),
    *cases("start", FAILED, "engine.connect_stage 1*"),
    *cases("start", f"{FAILED} or {UNKNOWN}", "engine.inspect 1"),  # or it is for one that lives
    Case("stop", "journal.commit.before:1", RUNNING),
    Case("stop", "journal.commit.after:1", STOPPED),
    *cases("stop", STOPPED, "journal.commit 2"),
    *cases("stop", f"{STOPPED} or {RUNNING}", "engine.inspect 2", "engine.inspect 6"),
    # No third: a stage whose neighbours have been stopped may have ended by itself before its turn.
    *cases("stop", STOPPED, "engine.stop 1*", "engine.stop 2"),
    *cases("stop", STOPPED, "engine.logs 1*", "engine.logs 3"),
    *cases("stop", STOPPED, "engine.remove 1", "engine.remove 3*", "engine.remove_network 1*"),
    *cases("attach", RUNNING, "engine.image_ids 1", "engine.create 1", "engine.start 1*"),
    *cases("attach", RUNNING, "engine.inspect 1", "journal.commit 1"),
    # The life after a half-made session, and after a half-removed one, ends too early as well.
    *cases("roll-back", FAILED, "engine.connect 1", "engine.list_objects 1"),
    *cases("roll-back", FAILED, "engine.remove 1", "engine.remove 2*", "engine.remove_network 1"),
    *cases("roll-back", FAILED, "journal.commit 1", "journal.commit 2"),
    *cases("finish", STOPPED, "engine.connect 1", "engine.list_objects 1", "engine.inspect 1"),
    *cases("finish", STOPPED, "engine.logs 1", "engine.remove 1*", "engine.remove 3"),
    *cases("finish", STOPPED, "engine.remove_network 1", "journal.commit 1"),
]
LEASE = {"ttl": 600}
"""Longer than any case takes."""
MARKING = [*cases("claim", "", "engine.claim 1"), *cases("release", "", "engine.release 1")]
"""Around the instance's mark there is no third session, and at its end no session at all."""
SELDOM = [case for case in CASES if not case.often]
DAY = int(os.environ.get("FAULTS_DAY") or date.today().toordinal())
TODAY = SELDOM[DAY % DAYS :: DAYS]
CHOSEN = [case for case in CASES if ALL or case.often or case in TODAY]


def test_every_failpoint_has_a_case() -> None:
    assert {case.place.partition(":")[0] for case in [*CASES, *MARKING]} == set(FAILPOINTS)


def test_every_case_has_its_turn() -> None:
    """S15: within some days, and no day has many more than another."""
    parts = [SELDOM[day::DAYS] for day in range(DAYS)]
    assert sorted(map(str, [case for part in parts for case in part])) == sorted(map(str, SELDOM))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert set(CHOSEN) >= {case for case in CASES if case.often} | set(TODAY)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder: Path = tmp_path_factory.mktemp("killed")
    with ground_with_people(folder, count=600 + 80 * len(CHOSEN)) as ground:
        yield ground


# What is being done when the daemon dies


async def start(ground: Ground, place: str) -> None:
    async with ground.life(f"{place}@") as life:
        wire = await life.wire()
        ground.arm()
        wire.begin("session.start", count=1000, env=SMALL_FRAMES)
        await life.died()


async def past_all_commits(ground: Ground, wire: Wire, session: Json) -> None:
    """Return when the daemon has nothing to write down any more of a session that runs.

    What others can read in the journal is committed, but its failpoint after that may still come. The answer
    to an extended lease waits for the whole of it.
    """
    await ground.written_down("session.running", session)
    await wire.call("session.extend", session_id=session["session_id"], **LEASE)


async def stop(ground: Ground, place: str) -> None:
    async with ground.life(f"{place}@") as life:
        wire = await life.wire()
        third = await wire.call("session.start", count=1000, env=SMALL_FRAMES, lease=LEASE)
        await past_all_commits(ground, wire, third)
        ground.arm()
        wire.begin("session.stop", session_id=third["session_id"])
        await life.died()


async def attach(ground: Ground, place: str) -> None:
    async with ground.life(f"{place}@", settings(TIGHT)) as life:
        wire = await life.wire()
        third = await wire.call(
            "session.start", count=1000, env=SMALL_FRAMES, on_shortage="degrade", lease=LEASE
        )
        assert third["degraded"] is True
        await past_all_commits(ground, wire, third)
        ground.rewrite(settings())
        ground.arm()
        wire.begin("system.reload")
        await life.died()


async def roll_back(ground: Ground, place: str) -> None:
    await start(ground, "engine.start.after:2")
    async with ground.life(place) as life:
        await life.died()


async def finish(ground: Ground, place: str) -> None:
    await stop(ground, "engine.stop.after:2")
    async with ground.life(place) as life:
        await life.died()


OPERATIONS = {
    "start": start, "stop": stop, "attach": attach, "roll-back": roll_back, "finish": finish,
}  # fmt: skip


# What is there afterwards


async def third_session(life: Life, before: set[str]) -> Json | None:
    """Return the session that was not there before, once it runs or has ended."""
    wire = await life.wire()
    sessions: list[Json] = (await wire.call("session.list", limit=1000))["sessions"]
    new = [each for each in sessions if each["session_id"] not in before]
    if not new:
        return None
    [found] = new
    if found["phase"] != "running":
        found = await wire.call("session.wait", session_id=found["session_id"])
    return found


def fate(session: Json | None) -> str:
    if session is None:
        return UNKNOWN
    return f"{session['outcome']}: {session['cause']}" if "outcome" in session else session["phase"]


async def see_whole_and_stop(ground: Ground, life: Life, session: Json) -> None:
    """Find a session that goes on in good health, and end it."""
    wire, session_id = await life.wire(), session["session_id"]

    async def whole() -> bool:
        return not (await wire.call("session.get", session_id=session_id))["degraded"]

    await until(whole, "it has its segmentation")
    session = await wire.call("session.get", session_id=session_id)
    assert (await hello(session["location"]))["count"] == 1000
    mine = {each["Id"] for each in ground.containers_of(session_id)}
    assert mine == {session[name] for name in ("probe", "stream", "segmentation")}
    ended = await wire.call("session.stop", session_id=session_id)
    assert fate(ended) == STOPPED


async def check_living(ground: Ground, life: Life) -> None:
    """See that the two live on as they were started, and that the books have them and nobody else."""
    wire = await life.wire()
    for session in ground.living:
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        for same in ("location", "network", "probe", "stream", "created"):
            assert found[same] == session[same]
    assert (await hello(ground.segmented["location"]))["count"] == ground.consumer.count
    ground.consumer.wait_for_more()
    status = await wire.call("system.status")
    assert status["reserved"]["sessions"] == len(ground.living)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
async def test_death_there_disturbs_nobody_and_leaves_nothing(ground: Ground, case: Case) -> None:
    before = ground.written_sessions()
    await OPERATIONS[case.operation](ground, case.place)
    async with ground.life() as life:
        third = await third_session(life, before)
        assert fate(third) in case.fate.split(" or ")
        if third is not None and fate(third) == RUNNING:
            await see_whole_and_stop(ground, life, third)
        await nothing_has_changed(ground)
        await check_living(ground, life)
        await until(lambda: has_open_only(life, ground), "what it opened for a moment is closed")
        assert life.sockets() <= MOST_SOCKETS
        await life.depart()
    while ground.changes():  # the engine was still doing what the dead daemon had asked of it
        async with ground.life() as life:
            await nothing_has_changed(ground)
            await life.depart()
    assert ground.neighbours.touched() == 0


async def nothing_has_changed(ground: Ground) -> None:
    """Return when a life has removed what an earlier one made, however late the engine was with it."""

    def is_whole() -> bool:
        changes[:] = ground.changes()
        return not changes

    changes: list[str] = []
    try:
        await until(is_whole, "the engine has what it had")
    except TimeoutError as exc:
        raise AssertionError("\n".join(changes)) from exc


def has_open_only(life: Life, ground: Ground) -> bool:
    """Tell whether a life has open what the first one had, and nothing else."""
    return Counter(life.descriptors()) == ground.descriptors


async def claim(ground: Ground, place: str) -> None:
    async with ground.life(place) as life:
        await life.died()


async def release(ground: Ground, place: str) -> None:
    code = 0
    while code == 0:  # an engine that takes longer than the daemon waits at its end keeps the mark
        async with ground.life(place) as life:
            await life.served.logged("answers")
            life.served.process.terminate()
            code = await life.served.ended()
    assert code == -signal.SIGKILL


MARKED = {"claim": claim, "release": release}


def mark(ground: Ground) -> str | None:
    """Return whose the instance is by its mark on the engine; None if there is none."""
    try:
        volume = ground.engine.client.inspect_volume(f"operatord-{ground.instance}")
    except (docker.errors.NotFound, FileNotFoundError):
        return None
    holder: str = volume["Labels"]["operatord.holder"]
    return holder


@pytest.mark.parametrize("case", MARKING, ids=str)
async def test_death_around_the_mark_leaves_the_instance_to_its_next_life(
    tmp_path: Path, case: Case
) -> None:
    """A mark that a dead daemon left names its state directory, and goes with the next one's end."""
    with contextlib.closing(Ground(tmp_path)) as ground:
        await MARKED[case.operation](ground, case.place)
        made = case.place in ("engine.claim.after:1", "engine.release.before:1")
        assert (mark(ground) is not None) is made
        identity = json.loads((ground.state_dir / "identity").read_bytes())
        ended = False
        while not ended:
            async with ground.life() as life:
                await life.served.logged("answers")
                assert mark(ground) == identity["holder"]
                await life.depart()
            ended = mark(ground) is None


async def test_in_the_end_the_stream_was_whole_and_all_is_gone(ground: Ground) -> None:
    traces = ground.before["traces"]
    async with ground.life() as life:
        wire = await life.wire()
        end = await asyncio.to_thread(ground.consumer.finish)
        count = ground.consumer.count
        assert (end, ground.consumer.trouble) == (
            {"type": "end", "frames": count, "dropped": 0},
            "",
        )
        ended = await wire.call("session.wait", session_id=ground.segmented["session_id"])
        assert (fate(ended), ended["frames"]) == ("completed: done", count)
        ended = await wire.call("session.stop", session_id=ground.plain["session_id"])
        assert fate(ended) == STOPPED
        assert ground.objects() == set()
        left = ground.engine_state()["traces"]
        await life.depart()
    assert ground.neighbours.touched() == 0
    ground.neighbours.close()
    assert left
    assert set(left) < set(traces)
    assert ground.engine_state()["traces"] == []
