# SPDX-License-Identifier: MIT
"""Sessions whose frames stop: noticed with the stage at fault, and never mistaken for slow consumers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from daemon_lab import Json, Lab, StillClock, in_process
from test_usage import FakeLab

from operatord.core.pipelines import Stage
from operatord.core.plans import SessionPlan
from operatord.engines.base import LogLine, StageState
from operatord.runtime.record import SessionRecord
from operatord.runtime.stall import Report, StallWatch, at_fault, report_in
from operatord_protocol.messages import SessionStartParams

CHAIN = ("probe", "stream", "segmentation")


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
    lab.meter.world.write(record.containers[stage], line)


async def streams(lab: FakeLab, record: SessionRecord, seconds: int, first: int = 0) -> int:
    """Let both stages pass on frames, one a second; return how many there were."""
    for number in range(first + 1, first + seconds + 1):
        say(lab, record, "probe", frames=number)
        say(lab, record, "stream", frames=number)
        await lab.hours.pass_by(1)
    return first + seconds


async def test_probe_that_stops_is_named_once(lab: FakeLab, news: News, attend: Attend) -> None:
    record = await lab.session()
    await attend()
    await streams(lab, record, 60)
    assert news.stalls() == []
    await lab.hours.pass_by(50)
    [(stage, seconds)] = news.stalls()
    assert (stage, seconds) == ("probe", 30)
    await lab.hours.pass_by(600)
    assert news.stalls() == []


async def test_session_that_moves_again_may_stall_again(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    await lab.hours.pass_by(50)
    assert news.stalls() == [("probe", 30)]
    await streams(lab, record, 20, frames)
    assert news.stalls() == []
    await lab.hours.pass_by(50)
    assert news.stalls() == [("probe", 30)]


async def test_stage_that_does_not_take_what_it_is_offered_is_the_one(
    lab: FakeLab, news: News, attend: Attend
) -> None:
    record = await lab.session()
    await attend()
    frames = await streams(lab, record, 20)
    say(lab, record, "probe", frames=frames + 40, blocked=1)
    await lab.hours.pass_by(50)
    assert news.stalls() == [("stream", 30)]


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
    assert news.stalls() == [("probe", 30)]


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
    assert news.stalls() == [("probe", 150)]


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
            lab.meter.world.write(record.containers["stream"], f"word {word}, line {line}")
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
    """What the stages of a chain said last, by place; ``before`` is where it differed the first time."""

    frames: tuple[int, int, int]
    blocked: tuple[int, int, int] = (0, 0, 0)
    before: dict[str, int] = {}  # noqa: RUF012  # never written to
    exited: tuple[str, ...] = ()
    count: int | None = None


async def blame(said: Said) -> str | None:
    stages = {name: Stage(image="any", port=1) for name in CHAIN}
    env: dict[str, dict[str, str]] = {name: {} for name in CHAIN}
    plan = SessionPlan("segmented", "shared", stages, env, "json", said.count)
    record = SessionRecord("EE705B6538693C50", plan, SessionStartParams(), "local", {})
    record.exits = {name: StageState(name, "exited", 0) for name in said.exited}
    figures = zip(CHAIN, said.frames, said.blocked, strict=True)
    now = {name: Report(frames, 1, blocked) for name, frames, blocked in figures}
    before = now | {name: Report(frames, 1, 0) for name, frames in said.before.items()}
    return at_fault(record, before, now)


CASES: dict[str, tuple[Said, str | None]] = {
    "the probe hangs": (Said((60, 70, 70)), "probe"),
    "the probe hangs while it happens to send": (Said((60, 70, 70), (1, 0, 0)), "probe"),
    "streaming hangs": (Said((95, 60, 70), (1, 0, 0)), "stream"),
    "streaming hangs in the middle of a large frame": (Said((60, 60, 60), (1, 0, 0)), "stream"),
    "segmentation hangs": (Said((95, 80, 60), (1, 1, 0)), "segmentation"),
    "segmentation hangs, and streaming is live": (
        Said((95, 80, 60), before={"probe": 90, "stream": 75}), "segmentation",
    ),
    "the probe is through and streaming hangs": (Said((100, 60, 60), count=100), "stream"),
    "the probe has gone and streaming hangs": (Said((100, 60, 60), exited=("probe",)), "stream"),
    "what was waited for is on its way": (Said((95, 80, 60), before=dict.fromkeys(CHAIN, 50)), None),
}  # fmt: skip


@pytest.mark.parametrize(("said", "stage"), CASES.values(), ids=CASES)
async def test_fault_lies_with_the_first_that_stands_still_by_itself(
    said: Said, stage: str | None
) -> None:
    assert await blame(said) == stage


@pytest.mark.parametrize(
    "line",
    [
        "report",
        '{"type":"report"',
        '{"type":"report","frames":1}',
        '{"type":"report","frames":1,"consumers":"2","blocked":0}',
        '{"type":"listening","frames":1,"consumers":2,"blocked":0}',
    ],
)
def test_line_that_is_no_whole_report_counts_for_nothing(line: str) -> None:
    assert report_in(LogLine("now", "stdout", line)) is None


def test_report_on_standard_error_counts_for_nothing() -> None:
    line = '{"type":"report","frames":1,"consumers":2,"blocked":0,"dice_mean":0.9}'
    assert report_in(LogLine("now", "stdout", line)) == Report(1, 2, 0)
    assert report_in(LogLine("now", "stderr", line)) is None


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
