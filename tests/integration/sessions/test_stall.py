# SPDX-License-Identifier: MIT
"""Sessions whose frames stop: noticed with the stage at fault, and never mistaken for slow consumers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import pytest
from daemon_lab import Json, Lab, StillClock, Wire, in_process, until
from test_usage import FakeLab

from operatord.core.pipelines import Stage
from operatord.core.plans import SessionPlan, Upstream
from operatord.engines.base import Address, LogLine, StagePlan, StageState
from operatord.machine.clock import Clock, rfc3339
from operatord.monitors.stall import StallWatch, at_fault
from operatord.session.record import SessionRecord
from operatord.streams.reports import Counters, StageReports, report_in
from operatord_protocol.messages import SessionStartParams

CHAIN = ("probe", "stream", "segmentation")
THEIRS = Upstream("ultrasound", "192.0.2.1", 12345)
HELD_UP: Json = {"frames": 9, "blocked": 1}


def report_line(stage: str, **report: object) -> str:
    """Return a stage's report; with one consumer that waits, unless it is said otherwise."""
    counters = {"dropped": 0, "consumers": 1, "blocked": 0, **report}
    return json.dumps({"type": "report", "stage": stage, **counters}, separators=(",", ":"))


class Watched:
    """A session whose stages say what a test lets them say, and a subscriber who hears of its stalls."""

    def __init__(self, lab: FakeLab, record: SessionRecord, timeout: float) -> None:
        self.lab, self.record = lab, record
        self.timeout: float | None = timeout
        self.frames = 0
        """How many have streamed so far."""
        self._heard: list[Json] = []

    async def watch(self) -> None:
        """Let a watch for stalled sessions run."""
        lab = self.lab
        watch = StallWatch(
            lab.engine, lambda: lab.records, lambda: self.timeout, self._hear, lab.rate
        )
        await lab.watch(watch)

    def _hear(self, type: str, **fields: Any) -> None:
        self._heard.append({"type": type, **fields})

    def holders(self) -> list[tuple[str, str, float]]:
        """Return stage, consumer and seconds of what has been said since the last call."""
        heard, self._heard = self._heard, []
        assert {event["type"] for event in heard} <= {"session.held_up"}
        return [(event["stage"], event["consumer"], event["seconds"]) for event in heard]

    def stalls(self) -> list[tuple[str, int]]:
        """Return stage and seconds of what has been said since the last call."""
        heard, self._heard = self._heard, []
        assert {event["type"] for event in heard} <= {"session.stalled"}
        return [(event["stage"], int(event["seconds"])) for event in heard]

    async def idle(self, seconds: float) -> None:
        """Let time pass in which no stage says anything."""
        await self.lab.hours.pass_by(seconds)

    async def stalls_in(self, seconds: float) -> list[tuple[str, int]]:
        """Let that time pass as well; return what has been said by its end."""
        await self.idle(seconds)
        return self.stalls()

    def write(self, stage: str, line: str) -> None:
        """Let a stage write a line now."""
        container = self.lab.meter.world.containers[self.record.provisioned.containers[stage]]
        container.lines.append(LogLine(rfc3339(self.lab.hours.wall()), "stdout", line))

    def say(self, *stages: str, **report: object) -> None:
        """Let stages report now."""
        for stage in stages:
            self.write(stage, report_line(stage, **report))

    async def streams(self, seconds: int, *through: str, **promise: object) -> None:
        """Let stages pass on frames, one a second: probe and stream, unless it is said which."""
        for _ in range(seconds):
            self.frames += 1
            self.say(*through or CHAIN[:2], frames=self.frames, **promise)
            await self.idle(1)

    async def beat(self, seconds: int, **said: Json) -> None:
        """Let stages report once a second as they have promised, each with these counters."""
        for _ in range(seconds):
            for stage, counters in said.items():
                self.say(stage, every=1, **counters)
            await self.idle(1)

    def replan(self, **changes: object) -> None:
        """Let the session have been planned otherwise."""
        self.record.plan = msgspec.structs.replace(self.record.plan, **changes)


@pytest.fixture
def timeout() -> float:
    """The one in force when the watch begins; a test's parameter of this name takes its place."""
    return 30.0


@pytest.fixture
async def session(timeout: float) -> AsyncIterator[Watched]:
    lab = FakeLab()
    watched = Watched(lab, await lab.session(), timeout)
    await watched.watch()
    yield watched
    await lab.close()


async def test_probe_that_stops_is_named_once(session: Watched) -> None:
    await session.streams(60)
    assert session.stalls() == []
    assert await session.stalls_in(50) == [("probe", 31)]
    assert await session.stalls_in(600) == []


async def test_session_that_moves_again_may_stall_again(session: Watched) -> None:
    for _ in range(2):
        await session.streams(20)
        assert session.stalls() == []
        assert await session.stalls_in(50) == [("probe", 31)]


async def test_stage_that_does_not_take_what_it_is_offered_is_the_one(session: Watched) -> None:
    await session.streams(20)
    session.say("probe", frames=session.frames + 40, blocked=1)
    assert await session.stalls_in(50) == [("stream", 31)]


async def test_consumer_that_does_not_read_is_no_stall(session: Watched) -> None:
    await session.streams(20)
    session.say("probe", frames=session.frames + 80, blocked=1)
    session.say("stream", frames=session.frames + 40, blocked=1)
    assert await session.stalls_in(300) == []


async def test_consumer_that_reads_again_is_waited_with_from_then_on(session: Watched) -> None:
    await session.streams(20)
    session.say("stream", frames=60, blocked=1)
    await session.idle(300)
    session.say("stream", frames=60, blocked=0)
    assert await session.stalls_in(25) == []
    assert await session.stalls_in(25) == [("probe", 31)]


async def test_nobody_waits_where_nobody_is_connected(session: Watched) -> None:
    await session.streams(20)
    session.say("stream", frames=session.frames, consumers=0)
    assert await session.stalls_in(300) == []


async def test_consumer_that_came_back_between_two_looks_has_not_waited_before(
    session: Watched,
) -> None:
    await session.streams(20)
    await session.idle(18)
    for consumers in (0, 1):
        session.say("stream", frames=session.frames, consumers=consumers)
    assert await session.stalls_in(25) == []


@pytest.mark.parametrize("halt", range(1, 16))
@pytest.mark.parametrize("timeout", [2.0, 30.0])
async def test_stall_is_said_within_two_seconds_of_the_timeout(
    session: Watched, timeout: float, halt: int
) -> None:
    await session.streams(15 + halt)  # the last frame has come a second ago
    assert await session.stalls_in(timeout - 1) == []
    assert await session.stalls_in(2) == [("probe", timeout + 1)]


async def test_session_that_has_just_come_to_run_is_looked_at_in_time_as_well(
    session: Watched,
) -> None:
    await session.idle(7)
    session.say("probe", "stream", frames=3)
    assert await session.stalls_in(32) == [("probe", 31)]


async def test_another_consumer_of_a_stalled_stream_is_no_news(session: Watched) -> None:
    await session.streams(20)
    assert len(await session.stalls_in(50)) == 1
    session.say("stream", frames=session.frames, consumers=2)
    assert await session.stalls_in(100) == []


async def test_slow_probe_is_not_stalled_within_three_of_its_intervals(session: Watched) -> None:
    session.record.fps = 0.02
    session.say("probe", "stream", frames=1)
    assert await session.stalls_in(149) == []
    assert await session.stalls_in(20) == [("probe", 151)]


async def test_stages_that_report_without_blocked_or_not_at_all_never_stall(
    session: Watched,
) -> None:
    lab = session.lab
    old, silent = await lab.session(), await lab.session()
    lab.says(old, frames=5, dropped=0, consumers=1)
    lab.meter.world.write(silent.provisioned.containers["stream"], "working")
    session.say("stream", frames=5)  # and what its probe does, nobody knows
    assert await session.stalls_in(600) == []


async def test_stage_whose_reports_are_lost_among_its_words_is_not_judged(
    session: Watched,
) -> None:
    await session.streams(20)
    for word in range(100):
        for line in range(40):
            session.write("stream", f"word {word}, line {line}")
        await session.idle(1)
    assert session.stalls() == []


async def test_stream_that_has_been_passed_on_to_its_last_frame_is_no_stall(
    session: Watched,
) -> None:
    session.replan(count=20)
    await session.streams(20)
    assert await session.stalls_in(300) == []


# Stages that hang


async def test_last_stage_that_hangs_while_it_is_held_up_is_no_slow_consumer(
    session: Watched,
) -> None:
    await session.beat(100, probe=HELD_UP, stream=HELD_UP)
    assert session.stalls() == [], "as long as it says so, it is its consumer that does not read"
    await session.beat(29, probe=HELD_UP)
    assert session.stalls() == []
    await session.beat(3, probe=HELD_UP)
    assert session.stalls() == [("stream", 31)]


async def test_stage_that_promises_nothing_is_believed_to_be_held_up(session: Watched) -> None:
    session.say("probe", "stream", **HELD_UP)
    assert await session.stalls_in(600) == []


async def test_stage_that_hangs_after_its_last_frame_keeps_its_consumer_from_the_end(
    session: Watched,
) -> None:
    session.replan(count=20)
    through = {"frames": 20}
    await session.beat(60, probe=through, stream=through)
    assert session.stalls() == []
    await session.beat(40, probe=through)
    assert session.stalls() == [("stream", 31)]


async def test_engine_that_was_slow_to_answer_is_asked_again_before_anything_is_said(
    session: Watched,
) -> None:
    """It has hung, and with it what takes in the stages' reports: when it goes on, those are missing."""
    await session.beat(18, probe=HELD_UP, stream=HELD_UP)
    await session.idle(11)
    gate = session.lab.meter.script.hold("logs")
    await session.idle(6)
    assert gate.reached.is_set()
    await session.idle(3)
    gate.open.set()
    assert await session.stalls_in(0) == []
    await session.beat(60, probe=HELD_UP, stream=HELD_UP)
    assert session.stalls() == []


async def test_stage_is_no_longer_silent_when_it_goes_on(session: Watched) -> None:
    await session.beat(20, probe=HELD_UP, stream=HELD_UP)
    assert len(await session.stalls_in(60)) == 1
    await session.beat(60, probe=HELD_UP, stream=HELD_UP)
    assert await session.stalls_in(60) == [], "no frames have come in between"
    await session.beat(20, probe={"frames": 12}, stream={"frames": 12})
    assert await session.stalls_in(60) == [("probe", 31)]


# Stages that have reported nothing yet

LISTENING = '{"type":"listening","stage":"stream","port":12346}'


class Checks:
    """Checks of a last stage that has only said that it listens, and when each was made."""

    def __init__(self, session: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answered = True
        self.times: list[float] = []
        self._clock = session.lab.hours
        monkeypatch.setattr("operatord.monitors.stall.greets", self._greets)
        container_id = session.record.provisioned.containers["stream"]
        session.lab.meter.world.containers[container_id].published = Address("127.0.0.1", 1)
        session.write("stream", LISTENING)

    async def _greets(self, _: Address) -> bool:
        self.times.append(self._clock.now())
        return self.answered


@pytest.fixture
def checks(session: Watched, monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(session, monkeypatch)


async def test_last_stage_that_hangs_before_its_first_report_is_named_once(
    session: Watched, checks: Checks
) -> None:
    checks.answered = False
    assert await session.stalls_in(44) == []
    assert await session.stalls_in(17) == [("stream", 30)]
    checks.times.clear()
    assert await session.stalls_in(600) == []
    assert checks.times == []


async def test_last_stage_that_nobody_reads_is_checked_seldom(
    session: Watched, checks: Checks
) -> None:
    assert await session.stalls_in(3600) == []
    assert len(checks.times) <= 12


async def test_last_stage_that_answered_a_check_in_between_does_not_hang(
    session: Watched, checks: Checks
) -> None:
    for _ in range(5):
        checks.answered = False
        await session.idle(29)
        checks.answered = True
        assert await session.stalls_in(31) == []


async def test_last_stage_that_reports_is_not_checked(session: Watched, checks: Checks) -> None:
    await session.streams(100)
    assert (session.stalls(), checks.times) == ([], [])


async def test_last_stage_that_has_promised_no_reports_is_not_checked(
    session: Watched, checks: Checks
) -> None:
    for line in range(40):
        session.write("stream", f"line {line}, and its first one is forgotten")
    assert await session.stalls_in(100) == []
    assert checks.times == []


# Attached stages and registered probes


@pytest.fixture
async def degraded(session: Watched) -> Watched:
    """The session, which has been given its segmentation."""
    record, engine = session.record, session.lab.meter
    first = engine.world.containers[record.provisioned.containers["stream"]].plan
    plan: StagePlan = msgspec.structs.replace(first, name="late", stage="segmentation")
    record.provisioned.containers["segmentation"] = await engine.create(plan)
    await engine.start(record.provisioned.containers["segmentation"])
    session.replan(stages={**record.plan.stages, "segmentation": Stage(image="any", port=12347)})
    record.attached = ("segmentation",)
    return session


async def test_attached_stage_that_hangs_is_noticed_though_the_plain_stream_flows(
    degraded: Watched,
) -> None:
    await degraded.streams(20, *CHAIN, every=1)
    assert degraded.stalls() == []
    await degraded.streams(40, every=1)
    assert degraded.stalls() == [("segmentation", 31)]


async def test_attached_stage_without_consumers_of_its_own_keeps_nobody_waiting(
    degraded: Watched,
) -> None:
    degraded.say("segmentation", frames=0, consumers=0, every=1)
    await degraded.streams(60, every=1)
    assert degraded.stalls() == []


async def test_attached_stage_may_wait_for_a_slow_consumer_of_the_plain_stream(
    degraded: Watched,
) -> None:
    held = {"frames": 40, "blocked": 1}
    await degraded.beat(100, probe=held, stream=held, segmentation={"frames": 9})
    assert degraded.stalls() == []


@pytest.mark.parametrize("meanwhile", ["stream", "probe"])
async def test_attached_stage_that_goes_while_another_is_listened_to_breaks_no_look(
    degraded: Watched,
    meanwhile: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    record, engine = degraded.record, degraded.lab.meter
    containers, logs = record.provisioned.containers, engine.logs
    await degraded.streams(20, *CHAIN, every=1)

    async def goes(container_id: str, tail: int) -> list[LogLine]:
        if container_id == containers[meanwhile] and record.attached:
            record.set_aside("segmentation")
            await engine.remove(containers.pop("segmentation"))
        return await logs(container_id, tail)

    monkeypatch.setattr(engine, "logs", goes)
    await degraded.streams(40, every=1)
    assert (record.attached, degraded.stalls()) == ((), [])
    assert "a look failed" not in caplog.text


async def test_one_fault_that_stops_both_streams_is_told_once(degraded: Watched) -> None:
    still = {"frames": 9}
    await degraded.beat(20, probe=still, stream=still, segmentation=still)
    await degraded.beat(60, stream=still, segmentation=still)
    assert degraded.stalls() == [("probe", 31)]


async def test_registered_probe_that_does_not_deliver_is_named(session: Watched) -> None:
    session.replan(stages={"stream": session.record.plan.stages["stream"]}, upstream=THEIRS)
    await session.beat(40, stream={"frames": 9})
    assert session.stalls() == [("probe", 31)]
    await session.beat(20, stream={"frames": 10})
    hangs = await session.stalls_in(40)
    assert hangs == [("stream", 31)], "it has said nothing for so long that it must hang"


# What it costs


async def test_only_the_last_stage_is_looked_at_while_frames_flow(session: Watched) -> None:
    session.lab.looks()
    await session.streams(61)
    looks = session.lab.looks("logs")
    assert looks == [session.record.provisioned.containers["stream"]] * 4, "once in 15 s"


async def test_without_a_timeout_the_engine_is_not_asked(session: Watched) -> None:
    session.timeout = None
    session.say("stream", frames=1)
    session.lab.looks()
    assert await session.stalls_in(300) == []
    assert session.lab.looks("logs") == []
    session.timeout = 30.0  # the settings have been reread
    await session.idle(100)
    assert session.lab.looks("logs") != []


# Whose fault it is


class Said(NamedTuple):
    """What the stages of a chain said last, by place."""

    frames: tuple[int, int, int]
    blocked: tuple[int, int, int] = (0, 0, 0)
    moves: tuple[str, ...] = ()
    """Stages that have said something else a while ago."""
    silent: tuple[str, ...] = ()
    """Stages that have promised to say it again, and have not."""
    mute: tuple[str, ...] = ()
    exited: tuple[str, ...] = ()
    count: int | None = None
    upstream: Upstream | None = None


async def blame(said: Said) -> str | None:
    chain = CHAIN if said.upstream is None else CHAIN[1:]
    stages = {name: Stage(image="any", port=1) for name in chain}
    env: dict[str, dict[str, str]] = {name: {} for name in chain}
    plan = SessionPlan("segmented", "shared", stages, env, "json", said.count, said.upstream)
    record = SessionRecord("EE705B6538693C50", plan, SessionStartParams(), "local", {})
    record.observed.exits = {name: StageState(name, "exited", 0) for name in said.exited}
    reports = {name: StageReports(0.0) for name in chain}
    for name, frames, blocked in zip(CHAIN, said.frames, said.blocked, strict=True):
        if name in reports and name not in said.mute:
            promised = 1 if name in said.silent else None
            reports[name].newest = Counters(frames, 1, blocked, promised)
            reports[name].changed = 30.0 if name in said.moves else 0.0
    return at_fault(record, reports, 31.0)


CASES: dict[str, tuple[Said, str | None]] = {
    "the probe hangs": (Said((60, 70, 70)), "probe"),
    "the probe hangs while it happens to send": (Said((60, 70, 70), (1, 0, 0)), "probe"),
    "streaming hangs": (Said((95, 60, 70), (1, 0, 0)), "stream"),
    "streaming hangs in the middle of a large frame": (Said((60, 60, 60), (1, 0, 0)), "stream"),
    "segmentation hangs": (Said((95, 80, 60), (1, 1, 0)), "segmentation"),
    "segmentation hangs, and streaming is live": (
        Said((95, 80, 60), moves=("probe", "stream")), "segmentation",
    ),
    "the probe is through and streaming hangs": (Said((100, 60, 60), count=100), "stream"),
    "the probe has gone and streaming hangs": (Said((100, 60, 60), exited=("probe",)), "stream"),
    "the probe of somebody else does": (Said((60, 70, 70), upstream=THEIRS), "probe"),
    "streaming hangs, the probe being somebody else's": (
        Said((60, 60, 60), silent=("stream",), upstream=THEIRS), "stream",
    ),
    "all wait for the last one's consumer": (Said((95, 80, 60), (1, 1, 1)), None),
    "the last one hangs, held up": (Said((95, 80, 60), (1, 1, 1), silent=CHAIN[2:]), "segmentation"),
    "streaming hangs in its first frame": (
        Said((2, 0, 0), (1, 0, 0), mute=("stream",)), "stream",
    ),
    "streaming says nothing and has nothing to do": (Said((0, 0, 0), mute=("stream",)), None),
    "two hang": (Said((95, 80, 60), (1, 1, 1), silent=CHAIN[1:]), "stream"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "stage"), CASES.values(), ids=CASES)
async def test_fault_lies_with_the_first_that_stands_still_by_itself(
    said: Said, stage: str | None
) -> None:
    assert await blame(said) == stage


async def test_stage_that_has_reported_nothing_leaves_the_fault_open() -> None:
    assert await blame(Said((60, 70, 70))) == "probe"
    assert await blame(Said((60, 70, 70), mute=("stream",))) is None


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"report","frames":1}',
        '{"type":"report","frames":1,"consumers":"2","blocked":0}',
        '{"type":"listening","frames":1,"consumers":2,"blocked":0}',
    ],
)
def test_line_that_is_no_whole_report_counts_for_nothing(line: str) -> None:
    assert counters_in(line) is None


def counters_in(line: str, stream: Literal["stdout", "stderr"] = "stdout") -> Counters | None:
    report = report_in(LogLine("now", stream, line))
    return None if report is None else Counters.of(report)


def test_report_on_standard_error_counts_for_nothing() -> None:
    line = '{"type":"report","frames":1,"consumers":2,"blocked":0,"dice_mean":0.9,"every":0}'
    assert counters_in(line) == Counters(1, 2, 0)
    assert counters_in(line, "stderr") is None


def test_report_counts_as_written_between_two_looks_however_the_clocks_are_set() -> None:
    clock, reports = StillClock(), StageReports(1000.0)
    written = {"": 1010.0, "2020-01-01T00:00:00Z": 1010.0, "2030-01-01T00:00:00Z": 1030.0}
    for number, (stamp, said) in enumerate(written.items()):
        clock.advance(10)
        line = f'{{"type":"report","frames":{number},"consumers":1,"blocked":0}}'
        reports.read([LogLine(stamp, "stdout", line)], clock.now(), clock)
        assert (reports.said, reports.changed) == (said, said)


# In the daemon


@contextlib.asynccontextmanager
async def subscribed(
    tmp_path: Path, settings: Json, *types: str, clock: Clock | None = None
) -> AsyncIterator[tuple[Lab, Wire]]:
    """Run a daemon and a client that is told of stalled sessions, and of these types of events."""
    async with in_process(tmp_path / "s", settings, clock=clock) as lab:
        wire = await lab.wire()
        await wire.call("events.subscribe", types=["session.stalled", *types])
        yield lab, wire


async def stalled(wire: Wire, session: Json) -> Json:
    """Return what the client is told as soon as the session has stalled."""
    return await wire.event("session.stalled", session["session_id"])


async def looked_at(lab: Lab) -> None:
    """Return once the last stage's log has been read again."""
    gate = lab.fake.script.hold("logs")
    await gate.reached.wait()
    gate.open.set()


async def test_subscriber_is_told_of_a_stalled_session(tmp_path: Path) -> None:
    clock = StillClock()
    async with subscribed(tmp_path, {"stall_timeout": 10}, clock=clock) as (lab, wire):
        session = await wire.call("session.start", plain_stream=True)
        for stage in ("probe", "stream"):
            lab.fake.world.write(lab.fake.stages()[stage], report_line(stage, frames=5))
        for _ in range(3):
            await looked_at(lab)
            clock.advance(6)
        event = await stalled(wire, session)
        assert (event["stage"], event["seconds"] >= 10) == ("probe", True)
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running", "a stalled session is not ended"


# With real stages


@contextlib.contextmanager
def hanging(lab: Lab, session: Json, stage: str) -> Iterator[None]:
    """Let a stage of the process engine hang meanwhile."""
    pid = lab.daemon.engine._stages[session[stage]].child.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def consumer(session: Json) -> AsyncIterator[asyncio.StreamReader]:
    """Be connected to a session's location, and read nothing of oneself."""
    location = session["location"]
    reader, writer = await asyncio.open_connection(location["host"], location["port"])
    writer.write(b'{"type":"consume"}\n')
    try:
        yield reader
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def reading(session: Json) -> AsyncIterator[None]:
    """Be connected to a session's location, and read all that comes."""
    async with consumer(session) as reader:
        task = asyncio.create_task(drain(reader))
        try:
            yield
        finally:
            task.cancel()


async def drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 20):
        pass


async def stage_stats(wire: Wire, session: Json) -> dict[str, Json]:
    stats = await wire.call("session.stats", session_id=session["session_id"])
    stages: dict[str, Json] = stats["stages"]
    return stages


async def has_passed_on(wire: Wire, session: Json, frames: int, stage: str = "stream") -> bool:
    passed_on: int = (await stage_stats(wire, session))[stage].get("frames", 0)
    return passed_on >= frames


async def is_held_up(wire: Wire, session: Json) -> bool:
    stages = (await stage_stats(wire, session)).values()
    return all(stage.get("blocked") == 1 for stage in stages)


@pytest.mark.parametrize("stage", ["probe", "stream"])
async def test_stage_that_hangs_is_named_in_time(tmp_path: Path, stage: str) -> None:
    settings = {"engine": "process", "stall_timeout": 2}
    async with subscribed(tmp_path, settings) as (lab, wire):
        session = await wire.call("session.start", plain_stream=True, count=10_000)
        async with reading(session):
            await until(lambda: has_passed_on(wire, session, 5), "frames flow")
            # Of a stage that hangs before its first report, nobody knows that it gives any.
            await until(lambda: has_passed_on(wire, session, 5, "probe"), "the probe reports, too")
            with hanging(lab, session, stage):
                begun = time.monotonic()
                event = await stalled(wire, session)
                took = time.monotonic() - begun
        assert event["stage"] == stage
        assert took >= 2, "before its time"  # nor later than PATIENCE, or there were no event


async def test_last_stage_that_hangs_before_its_first_frame_is_named(tmp_path: Path) -> None:
    settings = {"engine": "process", "stall_timeout": 2}
    async with subscribed(tmp_path, settings) as (lab, wire):
        session = await wire.call("session.start", plain_stream=True, count=10_000)
        with hanging(lab, session, "stream"):
            async with reading(session):
                event = await stalled(wire, session)
        assert (event["stage"], event["seconds"] >= 2) == ("stream", True)
        healthy = await wire.call("session.start", plain_stream=True, count=10_000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stalled(wire, healthy), 6)
        async with reading(healthy):
            await until(lambda: has_passed_on(wire, healthy, 5), "checks cost it no reader")


async def test_last_stage_that_hangs_is_told_from_a_consumer_that_does_not_read(
    tmp_path: Path,
) -> None:
    settings = {"engine": "process", "stall_timeout": 3}
    large = {"probe": {"fps": 0, "width": 640, "height": 640}}
    async with subscribed(tmp_path, settings) as (lab, wire):
        session = await wire.call("session.start", plain_stream=True, count=10_000, env=large)
        async with consumer(session):
            await until(lambda: is_held_up(wire, session), "its consumer holds it up")
            with pytest.raises(TimeoutError):  # it would be said within two seconds of the timeout
                await asyncio.wait_for(stalled(wire, session), 6)
            with hanging(lab, session, "stream"):
                event = await stalled(wire, session)
            assert event["stage"] == "stream"


ROOM_FOR_ONE_AND_A_PLAIN_ONE: Json = {
    "engine": "process",
    "stall_timeout": 3,
    "pressure": {"cpu": None, "memory_stall": None},  # the tests beside this one are none of ours
    "system_reserved": {"cpus": (os.cpu_count() or 1) - 1},
    "pipelines": {
        "segmented": {
            "stages": {
                "probe": {"cpus": 0.1},
                "stream": {"cpus": 0.1},
                "segmentation": {"cpus": 0.5},
            }
        }
    },
}


async def test_segmentation_that_was_attached_and_hangs_is_named(tmp_path: Path) -> None:
    room = ROOM_FOR_ONE_AND_A_PLAIN_ONE
    async with subscribed(tmp_path, room, "session.attached") as (lab, wire):
        holder = await wire.call("session.start")
        session = await wire.call("session.start", on_shortage="degrade", count=10_000)
        async with reading(session):
            await wire.call("session.stop", session_id=holder["session_id"])
            attached = await wire.event("session.attached", session["session_id"])
            session = await wire.call("session.get", session_id=session["session_id"])
            async with reading(attached):
                await until(
                    lambda: has_passed_on(wire, session, 5, "segmentation"), "masks come, too"
                )
                with hanging(lab, session, "segmentation"):
                    event = await stalled(wire, session)
        assert event["stage"] == "segmentation"


# Who holds up the stream


async def held_up(session: Watched, seconds: int, consumer: str = "10.0.0.9:4711") -> None:
    """Let the last stage name a consumer for so long."""
    for past in range(1, seconds + 1):
        named = {"held_up_by": consumer, "held_up_for": past}
        session.say("stream", frames=9, blocked=1, every=1, **named)
        session.say("probe", frames=20, blocked=1, every=1)
        await session.idle(1)


async def test_consumer_that_holds_up_the_stream_is_named_once(session: Watched) -> None:
    """F9: stage, address and seconds, as soon as it is looked; and again only after it has gone on."""
    await held_up(session, 60)
    [(stage, consumer, seconds)] = session.holders()
    assert (stage, consumer) == ("stream", "10.0.0.9:4711")
    assert 5 <= seconds <= 20
    await session.streams(40, every=1)
    assert session.holders() == []
    await held_up(session, 40)
    assert len(session.holders()) == 1


async def test_each_consumer_that_holds_up_the_stream_is_named(session: Watched) -> None:
    """F9: the first was given up, and now there is another."""
    await held_up(session, 25)
    await held_up(session, 25, "10.0.0.10:4712")
    assert [consumer for _, consumer, _ in session.holders()] == ["10.0.0.9:4711", "10.0.0.10:4712"]


async def test_consumer_that_is_slow_for_a_moment_is_not_named(session: Watched) -> None:
    """F9: who goes on taking frames is slow, and no event."""
    for _ in range(15):
        await held_up(session, 4)
    assert session.holders() == []


@pytest.mark.parametrize("name", ["\u001b[2J", "", "x" * 65, 7, None, ["10.0.0.9"]])
async def test_consumer_whose_name_is_none_is_not_passed_on(session: Watched, name: object) -> None:
    """F9: a stage's program is anybody's; what it says goes to other people's terminals."""
    for _ in range(30):
        session.say("stream", frames=9, blocked=1, every=1, held_up_by=name, held_up_for=9)
        await session.idle(1)
    assert session.holders() == []
