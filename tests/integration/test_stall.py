# SPDX-License-Identifier: MIT
"""Sessions whose frames stop: noticed with the stage at fault, and never mistaken for slow consumers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from daemon_lab import Json, Lab, StillClock, Wire, in_process, until
from test_usage import FakeLab

from operatord.core.pipelines import Stage
from operatord.core.plans import SessionPlan, Upstream
from operatord.engines.base import LogLine, StagePlan, StageState
from operatord.runtime.clock import rfc3339
from operatord.runtime.heard import Heard, Report, report_in
from operatord.runtime.record import SessionRecord
from operatord.runtime.stall import StallWatch, at_fault
from operatord_protocol.messages import SessionStartParams

CHAIN = ("probe", "stream", "segmentation")
THEIRS = Upstream("ultrasound", "192.0.2.1", 12345)


class News:
    """A subscriber that writes down what it hears, and the timeout that counts meanwhile."""

    def __init__(self) -> None:
        self.timeout: float | None = 30.0
        self._heard: list[Json] = []

    def emit(self, type: str, **fields: Any) -> None:
        self._heard.append({"type": type, **fields})

    def stalls(self) -> list[tuple[str, int]]:
        """Return stage and seconds of what has been said since the last call."""
        heard, self._heard = self._heard, []
        assert {event["type"] for event in heard} <= {"session.stalled"}
        return [(event["stage"], int(event["seconds"])) for event in heard]


@pytest.fixture
async def lab() -> AsyncIterator[FakeLab]:
    running = FakeLab()
    yield running
    await running.close()


@pytest.fixture
def news() -> News:
    return News()


Attend = Callable[[], Awaitable[None]]


@pytest.fixture
def attend(lab: FakeLab, news: News) -> Attend:
    """Let a watch for stalled sessions run."""

    async def start() -> None:
        watch = StallWatch(
            lab.engine, lambda: lab.records, lambda: news.timeout, news.emit, lab.tempo
        )
        await lab.watch(watch)

    return start


def say(lab: FakeLab, record: SessionRecord, stage: str, **report: object) -> None:
    """Let a stage report; with one consumer that waits, unless it is said otherwise."""
    counters = {"dropped": 0, "consumers": 1, "blocked": 0, **report}
    line = json.dumps({"type": "report", "stage": stage, **counters}, separators=(",", ":"))
    write(lab, record, stage, line)


def write(lab: FakeLab, record: SessionRecord, stage: str, line: str) -> None:
    """Let a stage write a line now."""
    container = lab.meter.world.containers[record.containers[stage]]
    container.lines.append(LogLine(rfc3339(lab.hours.wall()), "stdout", line))


async def streams(lab: FakeLab, record: SessionRecord, seconds: int, first: int = 0) -> int:
    """Let both stages pass on frames, one a second; return how many there were."""
    for number in range(first + 1, first + seconds + 1):
        say(lab, record, "probe", frames=number)
        say(lab, record, "stream", frames=number)
        await lab.hours.pass_by(1)
    return first + seconds


async def beat(lab: FakeLab, record: SessionRecord, seconds: int, **said: Json) -> None:
    """Let stages report once a second as they have promised, each with these counters."""
    for _ in range(seconds):
        for stage, counters in said.items():
            say(lab, record, stage, every=1, **counters)
        await lab.hours.pass_by(1)


async def test_probe_that_stops_is_named_once(lab: FakeLab, news: News, attend: Attend) -> None:
    record = await lab.session()
    await attend()
    await streams(lab, record, 60)
    assert news.stalls() == []
    await lab.hours.pass_by(50)
    [(stage, seconds)] = news.stalls()
    assert (stage, seconds) == ("probe", 31)
    await lab.hours.pass_by(600)
    assert news.stalls() == []


async def test_session_that_moves_again_may_stall_again(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    await lab.hours.pass_by(50)
    assert news.stalls() == [("probe", 31)]
    await streams(lab, record, 20, frames)
    assert news.stalls() == []
    await lab.hours.pass_by(50)
    assert news.stalls() == [("probe", 31)]


async def test_stage_that_does_not_take_what_it_is_offered_is_the_one(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    say(lab, record, "probe", frames=frames + 40, blocked=1)
    await lab.hours.pass_by(50)
    assert news.stalls() == [("stream", 31)]


async def test_consumer_that_does_not_read_is_no_stall(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    say(lab, record, "probe", frames=frames + 80, blocked=1)
    say(lab, record, "stream", frames=frames + 40, blocked=1)
    await lab.hours.pass_by(300)
    assert news.stalls() == []


async def test_consumer_that_reads_again_is_waited_with_from_then_on(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    await streams(lab, record, 20)
    say(lab, record, "stream", frames=60, blocked=1)
    await lab.hours.pass_by(300)
    say(lab, record, "stream", frames=60, blocked=0)
    await lab.hours.pass_by(25)
    assert news.stalls() == []
    await lab.hours.pass_by(25)
    assert news.stalls() == [("probe", 31)]


async def test_nobody_waits_where_nobody_is_connected(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    say(lab, record, "stream", frames=frames, consumers=0)
    await lab.hours.pass_by(300)
    assert news.stalls() == []


async def test_consumer_that_came_back_between_two_looks_has_not_waited_before(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    await lab.hours.pass_by(18)
    say(lab, record, "stream", frames=frames, consumers=0)
    say(lab, record, "stream", frames=frames, consumers=1)
    await lab.hours.pass_by(25)
    assert news.stalls() == []


@pytest.mark.parametrize("halt", range(1, 16))
@pytest.mark.parametrize("timeout", [2.0, 30.0])
async def test_stall_is_said_within_two_seconds_of_the_timeout(
    lab: FakeLab, news: News, attend: Attend, timeout: float, halt: int
) -> None:
    news.timeout = timeout
    record = await lab.session()
    await attend()
    await streams(lab, record, 15 + halt)  # the last frame has come a second ago
    await lab.hours.pass_by(timeout - 1)
    assert news.stalls() == []
    await lab.hours.pass_by(2)
    assert news.stalls() == [("probe", timeout + 1)]


async def test_session_that_has_just_come_to_run_is_looked_at_in_time_as_well(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    await lab.hours.pass_by(7)
    say(lab, record, "probe", frames=3)
    say(lab, record, "stream", frames=3)
    await lab.hours.pass_by(32)
    assert news.stalls() == [("probe", 31)]


async def test_another_consumer_of_a_stalled_stream_is_no_news(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    await lab.hours.pass_by(50)
    assert len(news.stalls()) == 1
    say(lab, record, "stream", frames=frames, consumers=2)
    await lab.hours.pass_by(100)
    assert news.stalls() == []


async def test_slow_probe_is_not_stalled_within_three_of_its_intervals(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    record.fps = 0.02
    await attend()
    say(lab, record, "probe", frames=1)
    say(lab, record, "stream", frames=1)
    await lab.hours.pass_by(149)
    assert news.stalls() == []
    await lab.hours.pass_by(20)
    assert news.stalls() == [("probe", 151)]


async def test_stages_that_report_without_blocked_or_not_at_all_never_stall(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    old, silent, half = await lab.session(), await lab.session(), await lab.session()
    await attend()
    lab.says(old, frames=5, dropped=0, consumers=1)
    lab.meter.world.write(silent.containers["stream"], "working")
    say(lab, half, "stream", frames=5)  # and what its probe does, nobody knows
    await lab.hours.pass_by(600)
    assert news.stalls() == []


async def test_stage_whose_reports_are_lost_among_its_words_is_not_judged(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    await streams(lab, record, 20)
    for word in range(100):
        for line in range(40):
            write(lab, record, "stream", f"word {word}, line {line}")
        await lab.hours.pass_by(1)
    assert news.stalls() == []


async def test_stream_that_has_been_passed_on_to_its_last_frame_is_no_stall(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    record.plan = msgspec.structs.replace(record.plan, count=20)
    await attend()
    await streams(lab, record, 20)
    await lab.hours.pass_by(300)
    assert news.stalls() == []


# Stages that hang


async def test_last_stage_that_hangs_while_it_is_held_up_is_no_slow_consumer(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    held = {"frames": 9, "blocked": 1}
    await beat(lab, record, 100, probe=held, stream=held)
    assert news.stalls() == [], "for as long as it says so, it is its consumer that does not read"
    await beat(lab, record, 29, probe=held)
    assert news.stalls() == []
    await beat(lab, record, 3, probe=held)
    assert news.stalls() == [("stream", 31)]


async def test_stage_that_promises_nothing_is_believed_to_be_held_up(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    say(lab, record, "probe", frames=9, blocked=1)
    say(lab, record, "stream", frames=9, blocked=1)
    await lab.hours.pass_by(600)
    assert news.stalls() == []


async def test_stage_that_hangs_after_its_last_frame_keeps_its_consumer_from_the_end(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    record.plan = msgspec.structs.replace(record.plan, count=20)
    await attend()
    through = {"frames": 20}
    await beat(lab, record, 60, probe=through, stream=through)
    assert news.stalls() == []
    await beat(lab, record, 40, probe=through)
    assert news.stalls() == [("stream", 31)]


async def test_engine_that_was_slow_to_answer_is_asked_again_before_anything_is_said(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    """It has hung, and with it what takes in the stages' reports: when it goes on, those are missing."""
    record = await lab.session()
    await attend()
    await beat(
        lab, record, 18, probe={"frames": 5, "blocked": 1}, stream={"frames": 5, "blocked": 1}
    )
    await lab.hours.pass_by(11)
    gate = lab.meter.script.hold("logs")
    await lab.hours.pass_by(6)
    assert gate.reached.is_set()
    await lab.hours.pass_by(3)
    gate.open.set()
    await lab.hours.pass_by(0)
    assert news.stalls() == []
    await beat(
        lab, record, 60, probe={"frames": 5, "blocked": 1}, stream={"frames": 5, "blocked": 1}
    )
    assert news.stalls() == []


async def test_stage_is_no_longer_silent_when_it_goes_on(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    held = {"frames": 9, "blocked": 1}
    await beat(lab, record, 20, probe=held, stream=held)
    await lab.hours.pass_by(60)
    assert len(news.stalls()) == 1
    await beat(lab, record, 60, probe=held, stream=held)
    await lab.hours.pass_by(60)
    assert news.stalls() == [], "no frames have come in between"
    await beat(lab, record, 20, probe={"frames": 12}, stream={"frames": 12})
    await lab.hours.pass_by(60)
    assert news.stalls() == [("probe", 31)]


# Attached stages and registered probes


async def attached(lab: FakeLab) -> SessionRecord:
    """Return a degraded session that has been given its segmentation."""
    record = await lab.session()
    first = lab.meter.world.containers[record.containers["stream"]].plan
    plan: StagePlan = msgspec.structs.replace(first, name="late", stage="segmentation")
    record.containers["segmentation"] = await lab.meter.create(plan)
    await lab.meter.start(record.containers["segmentation"])
    stages = {**record.plan.stages, "segmentation": Stage(image="any", port=12347)}
    record.plan = msgspec.structs.replace(record.plan, stages=stages)
    record.attached = ("segmentation",)
    return record


async def test_attached_stage_that_hangs_is_noticed_though_the_plain_stream_flows(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await attached(lab)
    await attend()
    for number in range(20):
        figures = {"frames": number}
        await beat(lab, record, 1, probe=figures, stream=figures, segmentation=figures)
    assert news.stalls() == []
    for number in range(20, 60):
        await beat(lab, record, 1, probe={"frames": number}, stream={"frames": number})
    assert news.stalls() == [("segmentation", 31)]


async def test_attached_stage_without_consumers_of_its_own_keeps_nobody_waiting(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await attached(lab)
    await attend()
    say(lab, record, "segmentation", frames=0, consumers=0, every=1)
    for number in range(60):
        await beat(lab, record, 1, probe={"frames": number}, stream={"frames": number})
    assert news.stalls() == []


async def test_attached_stage_may_wait_for_a_slow_consumer_of_the_plain_stream(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await attached(lab)
    await attend()
    held = {"frames": 40, "blocked": 1}
    await beat(lab, record, 100, probe=held, stream=held, segmentation={"frames": 9})
    assert news.stalls() == []


async def test_one_fault_that_stops_both_streams_is_told_once(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await attached(lab)
    await attend()
    await beat(
        lab, record, 20, probe={"frames": 9}, stream={"frames": 9}, segmentation={"frames": 9}
    )
    await beat(lab, record, 60, stream={"frames": 9}, segmentation={"frames": 9})
    assert news.stalls() == [("probe", 31)]


async def test_registered_probe_that_does_not_deliver_is_named(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    stages = {"stream": record.plan.stages["stream"]}
    record.plan = msgspec.structs.replace(record.plan, stages=stages, upstream=THEIRS)
    await attend()
    await beat(lab, record, 40, stream={"frames": 9})
    assert news.stalls() == [("probe", 31)]
    await beat(lab, record, 20, stream={"frames": 10})
    await lab.hours.pass_by(40)
    assert news.stalls() == [("stream", 31)], "it has said nothing for so long that it must hang"


# What it costs


async def test_only_the_last_stage_is_looked_at_while_frames_flow(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    lab.looks()
    await streams(lab, record, 61)
    assert lab.looks("logs") == [record.containers["stream"]] * 4, "once in 15 s"


async def test_without_a_timeout_the_engine_is_not_asked(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    news.timeout = None
    record = await lab.session()
    await attend()
    say(lab, record, "stream", frames=1)
    lab.looks()
    await lab.hours.pass_by(300)
    assert lab.looks("logs") == []
    assert news.stalls() == []
    news.timeout = 30.0  # the settings have been reread
    await lab.hours.pass_by(100)
    assert lab.looks("logs") != []


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
    record.exits = {name: StageState(name, "exited", 0) for name in said.exited}
    heard = {name: Heard(0.0) for name in chain}
    for name, frames, blocked in zip(CHAIN, said.frames, said.blocked, strict=True):
        if name in heard and name not in said.mute:
            promised = 1 if name in said.silent else None
            heard[name].report = Report(frames, 1, blocked, promised)
            heard[name].changed = 30.0 if name in said.moves else 0.0
    return at_fault(record, heard, 31.0)


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
        "report",
        '{"type":"report"',
        '{"type":"report","frames":1}',
        '{"type":"report","frames":1,"consumers":"2","blocked":0}',
        '{"type":"listening","frames":1,"consumers":2,"blocked":0}',
        '{"type":"report","frames":1,"consumers":2,"blocked":0,"every":0}',
    ],
)
def test_line_that_is_no_whole_report_counts_for_nothing(line: str) -> None:
    assert report_in(LogLine("now", "stdout", line)) is None


def test_report_on_standard_error_counts_for_nothing() -> None:
    line = '{"type":"report","frames":1,"consumers":2,"blocked":0,"dice_mean":0.9}'
    assert report_in(LogLine("now", "stdout", line)) == Report(1, 2, 0)
    assert report_in(LogLine("now", "stderr", line)) is None


def test_report_counts_as_written_between_two_looks_however_the_clocks_are_set() -> None:
    clock, heard = StillClock(), Heard(1000.0)
    written = {"": 1010.0, "2020-01-01T00:00:00Z": 1010.0, "2030-01-01T00:00:00Z": 1030.0}
    for number, (stamp, said) in enumerate(written.items()):
        clock.advance(10)
        line = f'{{"type":"report","frames":{number},"consumers":1,"blocked":0}}'
        heard.read([LogLine(stamp, "stdout", line)], clock.now(), clock)
        assert (heard.said, heard.changed) == (said, said)


# In the daemon


async def test_subscriber_is_told_of_a_stalled_session(tmp_path: Path) -> None:
    clock = StillClock()
    settings = {"stall_timeout": 10}
    async with in_process(tmp_path / "s", settings, clock=clock) as running:
        wire = await running.wire()
        await wire.call("events.subscribe", types=["session.stalled"])
        session = await wire.call("session.start", plain_stream=True)
        report(running, "probe", frames=5)
        report(running, "stream", frames=5)
        for _ in range(3):
            await looked_at(running)
            clock.advance(6)
        event = await wire.event("session.stalled", session["session_id"])
        assert (event["stage"], event["seconds"] >= 10) == ("probe", True)
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running", "a stalled session is not ended"


def report(lab: Lab, stage: str, frames: int) -> None:
    counters = {"frames": frames, "dropped": 0, "consumers": 1, "blocked": 0}
    line = json.dumps({"type": "report", "stage": stage, **counters}, separators=(",", ":"))
    lab.fake.world.write(lab.fake.stages()[stage], line)


async def looked_at(lab: Lab) -> None:
    """Return once the last stage's log has been read again."""
    gate = lab.fake.script.hold("logs")
    await gate.reached.wait()
    gate.open.set()


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


@pytest.mark.parametrize("stage", ["probe", "stream"])
async def test_stage_that_hangs_is_named_in_time(tmp_path: Path, stage: str) -> None:
    async with in_process(tmp_path / "s", {"engine": "process", "stall_timeout": 2}) as lab:
        wire = await lab.wire()
        await wire.call("events.subscribe", types=["session.stalled"])
        session = await wire.call("session.start", plain_stream=True, count=10_000)
        async with consumer(session) as reader:
            reading = asyncio.create_task(drain(reader))
            await until(lambda: has_passed_on(wire, session, 5), "frames flow")
            with hanging(lab, session, stage):
                begun = time.monotonic()
                event = await wire.event("session.stalled", session["session_id"])
                took = time.monotonic() - begun
            reading.cancel()
        assert event["stage"] == stage
        assert 2 <= took < 6, "a second or two after the timeout, and what a busy machine adds"


async def test_last_stage_that_hangs_is_told_from_a_consumer_that_does_not_read(
    tmp_path: Path,
) -> None:
    large = {"probe": {"fps": 0, "width": 640, "height": 640}}
    async with in_process(tmp_path / "s", {"engine": "process", "stall_timeout": 1}) as lab:
        wire = await lab.wire()
        session = await wire.call("session.start", plain_stream=True, count=10_000, env=large)
        await wire.call("events.subscribe", types=["session.stalled"])
        async with consumer(session):
            await until(lambda: is_held_up(wire, session), "its consumer holds it up")
            with pytest.raises(TimeoutError):  # it would be said within two seconds of the timeout
                async with asyncio.timeout(4):
                    await wire.event("session.stalled", session["session_id"])
            with hanging(lab, session, "stream"):
                event = await wire.event("session.stalled", session["session_id"])
            assert event["stage"] == "stream"


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


ROOM_FOR_ONE_AND_A_PLAIN_ONE: Json = {
    "engine": "process",
    "stall_timeout": 1,
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
    async with in_process(tmp_path / "s", ROOM_FOR_ONE_AND_A_PLAIN_ONE) as lab:
        wire = await lab.wire()
        await wire.call("events.subscribe", types=["session.attached", "session.stalled"])
        holder = await wire.call("session.start")
        session = await wire.call("session.start", on_shortage="degrade", count=10_000)
        async with consumer(session) as plain:
            plainly = asyncio.create_task(drain(plain))
            await wire.call("session.stop", session_id=holder["session_id"])
            event = await wire.event("session.attached", session["session_id"])
            session = await wire.call("session.get", session_id=session["session_id"])
            async with consumer(event) as masks:
                reading = asyncio.create_task(drain(masks))
                await until(
                    lambda: has_passed_on(wire, session, 5, "segmentation"), "masks come, too"
                )
                with hanging(lab, session, "segmentation"):
                    stalled = await wire.event("session.stalled", session["session_id"])
                reading.cancel()
            plainly.cancel()
        assert stalled["stage"] == "segmentation"
