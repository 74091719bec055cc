# SPDX-License-Identifier: MIT
"""Looks at running sessions: what they use, and whether anybody consumes. Time passes by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest
from daemon_lab import until
from fake_engine import FakeEngine, Program, World

from operatord.core.pipelines import Stage
from operatord.core.plans import SessionPlan
from operatord.core.scheduling.learning import Learned, StageUse, Use
from operatord.engines.base import (
    LABEL_INSTANCE,
    LABEL_PLAN,
    LABEL_SESSION,
    Engine,
    NetworkPlan,
    StagePlan,
    StageStats,
)
from operatord.engines.process.engine import ProcessEngine
from operatord.machine.clock import Clock
from operatord.monitors.idle import IdleWatch
from operatord.monitors.usage import CallRate, UsageWatch
from operatord.session.record import SessionRecord
from operatord_protocol.messages import SessionStartParams

MIB = 2**20
STAGES = ("probe", "stream")
LISTENING = '{"type":"listening","stage":"stream","host":"0.0.0.0","port":12346}'


class Hours(Clock):
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000.0 + self.time

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, woken))
        await woken

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, waking everybody at the time for which they asked."""
        end = self.time + seconds
        await settled()
        while (sleeper := min(self._sleepers, key=lambda s: s[0], default=None)) is not None:
            if sleeper[0] > end:
                break
            self._sleepers.remove(sleeper)
            self.time = max(self.time, sleeper[0])
            if not sleeper[1].done():
                sleeper[1].set_result(None)
            await settled()
        self.time = end


async def settled() -> None:
    """Let every task go on until it waits for time or for the engine."""
    for _ in range(30):
        await asyncio.sleep(0)


class Meter(FakeEngine):
    """The fake, with figures for each container; cores are used from the moment of its start on."""

    def __init__(self, hours: Hours) -> None:
        super().__init__("test", World({"any": Program()}))
        self.hours = hours
        self.cores: dict[str, float] = {}
        self.memory: dict[str, int] = {}
        self.sent: dict[str, int] = {}
        self._spent: dict[str, tuple[float, float]] = {}

    def use(self, container_id: str, cores: float, memory: int) -> None:
        """Let a container use this much from now on."""
        self._spent[container_id] = (self._seconds(container_id), self.hours.time)
        self.cores[container_id], self.memory[container_id] = cores, memory

    async def stats(self, container_id: str) -> StageStats:
        await super().stats(container_id)
        return StageStats(
            cpu_seconds=self._seconds(container_id),
            memory=self.memory.get(container_id, MIB),
            tx_bytes=self.sent.get(container_id),
        )

    def _seconds(self, container_id: str) -> float:
        spent, since = self._spent.get(container_id, (0.0, self.hours.time))
        return spent + self.cores.get(container_id, 0.0) * (self.hours.time - since)


class Watch(Protocol):
    async def run(self) -> None: ...


class Lab:
    """An engine with sessions that run on it, and watches over them."""

    def __init__(self, hours: Hours, engine: Engine) -> None:
        self.hours, self.engine = hours, engine
        self.rate = CallRate(hours, hours.sleep)
        self.records: list[SessionRecord] = []
        self.learned = Learned()
        self._tasks: list[asyncio.Task[None]] = []

    async def session(
        self, image: str = "any", command: tuple[str, ...] = (), warm: bool = False
    ) -> SessionRecord:
        """Return a session that has just come to run."""
        number = len(self.records) + 1
        stages = {name: Stage(image=image, port=12345) for name in STAGES}
        plan = SessionPlan("stream", "shared", stages, {name: {} for name in STAGES}, "json")
        record = SessionRecord(f"{number:016X}", plan, SessionStartParams(), "local", {})
        labels = {LABEL_INSTANCE: "test", LABEL_SESSION: record.id, LABEL_PLAN: "plan"}
        network = await self.engine.create_network(
            NetworkPlan(record.network_name + record.id, f"198.18.{number}.0/28", labels)
        )
        for name in STAGES:
            record.provisioned.containers[name] = await self.engine.create(
                StagePlan(
                    f"{record.id}_{name}", name, image, network, {}, labels, 12345, command=command
                )
            )
            await self.engine.start(record.provisioned.containers[name])
        record.timings = {} if warm else {"start": 0.0, "verify": 0.0}
        record.advance("starting", self.hours.wall())
        record.advance("running", self.hours.wall())
        record.moments["running"] = self.hours.now()
        self.records.append(record)
        return record

    def end(self, record: SessionRecord) -> None:
        """Let a session end."""
        self.records.remove(record)
        record.advance("stopping", self.hours.wall())
        record.advance("ended", self.hours.wall())

    async def watch(self, watch: Watch) -> None:
        """Let a watch run to the end of the test."""
        self._tasks.append(asyncio.create_task(watch.run()))
        await settled()

    def measure(self) -> UsageWatch:
        return UsageWatch(self.engine, lambda: self.records, self.learned, self.rate)

    async def close(self) -> None:
        for task in self._tasks:
            assert not task.done(), "a watch has ended by itself"
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        found = await self.engine.list_objects("test")
        for each in (each for each in found if each.kind == "container"):
            await self.engine.remove(each.id)
        for each in (each for each in found if each.kind == "network"):
            await self.engine.remove_network(each.id)
        await self.engine.close()


class FakeLab(Lab):
    """On the fake engine."""

    def __init__(self) -> None:
        hours = Hours()
        self.meter = Meter(hours)
        super().__init__(hours, self.meter)

    def looks(self, operation: str = "stats") -> list[str]:
        """Return what has been looked at since the last call, and forget it."""
        calls = self.meter.script.calls
        found = [subject for each, subject in calls if each == operation]
        calls.clear()
        return found

    def says(self, record: SessionRecord, **report: object) -> None:
        """Let the last stage report."""
        line = json.dumps({"type": "report", "stage": "stream", **report}, separators=(",", ":"))
        self.meter.world.write(record.provisioned.containers["stream"], line)


@pytest.fixture
async def lab() -> AsyncIterator[FakeLab]:
    running = FakeLab()
    yield running
    await running.close()


# Usage


async def test_session_is_looked_at_young_twice_and_then_every_15_s(lab: FakeLab) -> None:
    record = await lab.session()
    await lab.watch(lab.measure())
    seen: list[float] = []
    for second in range(1, 51):
        await lab.hours.pass_by(1)
        if record.provisioned.containers["probe"] in lab.looks():
            seen.append(second)
    assert seen == [2, 5, 20, 35, 50]


async def test_cores_are_the_processor_time_between_two_looks(lab: FakeLab) -> None:
    record = await lab.session()
    probe = record.provisioned.containers["probe"]
    lab.meter.use(probe, 0.5, 30 * MIB)
    await lab.watch(lab.measure())
    await lab.hours.pass_by(2.5)
    assert record.observed.usage["probe"] == StageUse(
        peak=Use(500, 30 * MIB), last=Use(500, 30 * MIB)
    )
    await lab.hours.pass_by(3.5)
    lab.meter.use(probe, 0.1, 40 * MIB)
    await lab.hours.pass_by(30)
    assert record.observed.usage["probe"] == StageUse(
        peak=Use(500, 40 * MIB), last=Use(100, 40 * MIB)
    )


async def test_start_and_what_comes_after_are_learned_apart(lab: FakeLab) -> None:
    record = await lab.session()
    probe = record.provisioned.containers["probe"]
    lab.meter.use(probe, 2.0, 300 * MIB)
    await lab.watch(lab.measure())
    await lab.hours.pass_by(5.5)
    lab.meter.use(probe, 0.25, 50 * MIB)
    await lab.hours.pass_by(60)
    lesson = lab.learned.of("stream", "probe")
    assert lesson is not None
    assert lesson.start_peak == Use(2000, 300 * MIB)
    assert lesson.steady_p95.memory == 50 * MIB
    assert 250 <= lesson.steady_p95.cpus < 400, (
        "the first steady sample has half a second of the start"
    )
    assert lesson.samples == 6
    assert lab.learned.reservation_for("stream", "probe", Use(100, 64 * MIB)) == Use(
        2000, 304 * MIB
    )


async def test_stages_that_had_waited_warm_have_no_start_to_divide_by(lab: FakeLab) -> None:
    record = await lab.session(warm=True)
    probe = record.provisioned.containers["probe"]
    lab.meter.use(probe, 0.2, 30 * MIB)
    lab.meter._spent[probe] = (500.0, lab.hours.time)
    await lab.watch(lab.measure())
    await lab.hours.pass_by(2.5)
    assert record.observed.usage["probe"].last == Use(0, 30 * MIB)
    await lab.hours.pass_by(3)
    assert record.observed.usage["probe"].peak == Use(200, 30 * MIB)


async def test_peak_stays_readable_after_the_end_and_the_session_is_forgotten(lab: FakeLab) -> None:
    record = await lab.session()
    lab.meter.use(record.provisioned.containers["stream"], 1.0, 80 * MIB)
    watch = lab.measure()
    await lab.watch(watch)
    await lab.hours.pass_by(2.5)
    lab.end(record)
    await lab.hours.pass_by(2)
    lab.looks()
    await lab.hours.pass_by(60)
    assert lab.looks() == []
    assert watch._poller.polled == {}
    assert record.observed.usage["stream"].peak == Use(1000, 80 * MIB)


async def test_what_is_read_while_the_session_ends_does_not_count(lab: FakeLab) -> None:
    record = await lab.session()
    await lab.watch(lab.measure())
    gate = lab.meter.script.hold("stats")
    await lab.hours.pass_by(2)
    lab.end(record)
    gate.open.set()
    await lab.hours.pass_by(1)
    assert "probe" not in record.observed.usage
    assert lab.learned.of("stream", "probe") is None


async def test_two_hundred_sessions_do_not_flood_the_engine(lab: FakeLab) -> None:
    records = [await lab.session() for _ in range(200)]
    await lab.watch(lab.measure())
    await lab.hours.pass_by(2)
    for _ in range(20):
        lab.looks()
        await lab.hours.pass_by(5)
        assert 39 <= len(lab.looks()) <= 41, "eight calls a second"
    assert all(record.observed.usage.keys() == set(STAGES) for record in records), (
        "everybody gets a turn"
    )


async def test_young_session_goes_before_a_crowd_of_old_ones(lab: FakeLab) -> None:
    for _ in range(200):
        await lab.session()
    await lab.watch(lab.measure())
    await lab.hours.pass_by(120)
    record = await lab.session()
    await lab.hours.pass_by(2.6)
    assert record.observed.usage.keys() == set(STAGES)


async def test_at_most_two_calls_are_under_way(lab: FakeLab) -> None:
    await lab.session()
    await lab.session()
    await lab.watch(lab.measure())
    gates = [lab.meter.script.hold("stats") for _ in range(3)]
    await lab.hours.pass_by(4)
    assert [gate.reached.is_set() for gate in gates] == [True, True, False]
    for gate in gates:
        gate.open.set()


async def test_engine_that_fails_costs_a_look_only(lab: FakeLab) -> None:
    record = await lab.session()
    await lab.watch(lab.measure())
    lab.meter.world.lose()
    await lab.hours.pass_by(20)
    assert record.observed.usage == {}
    lab.meter.world.come_back()
    await lab.hours.pass_by(15)
    assert record.observed.usage.keys() == set(STAGES)


async def test_stage_that_is_gone_does_not_hide_the_others(lab: FakeLab) -> None:
    record = await lab.session()
    lab.meter.world.vanish(record.provisioned.containers["probe"])
    await lab.watch(lab.measure())
    await lab.hours.pass_by(3)
    assert record.observed.usage.keys() == {"stream"}


async def test_call_that_hangs_is_given_up_and_its_session_left_alone(lab: FakeLab) -> None:
    first, second = await lab.session(), await lab.session()
    lab.rate = lab.rate._replace(patience=0.01)
    lab.meter.script.hold("stats")
    watch = lab.measure()
    await lab.watch(watch)
    await lab.hours.pass_by(3)
    visit = watch._poller.polled[first.id]
    await until(lambda: visit.due > lab.hours.now() + 50, "the call is given up")
    lab.looks()
    await lab.hours.pass_by(30)
    assert second.observed.usage.keys() == set(STAGES)
    assert first.provisioned.containers["probe"] not in lab.looks()
    await lab.hours.pass_by(45)
    assert first.observed.usage.keys() == set(STAGES)


async def test_defect_in_one_look_does_not_end_the_others(
    lab: FakeLab, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await lab.session(), await lab.session()
    del first.observed.__dict__["usage"]
    await lab.watch(lab.measure())
    await lab.hours.pass_by(5)
    assert second.observed.usage.keys() == set(STAGES)
    assert f"session {first.id}: a look failed" in caplog.text


# Idleness


class Book:
    """Hooks that write down what they hear."""

    def __init__(self, timeout: float | None = 20.0) -> None:
        self.timeout = timeout
        self.limit: float | None = None
        self.heard: list[tuple[str, float | str]] = []

    def idle_timeout(self, record: SessionRecord) -> float | None:
        return self.timeout

    def on_idle(self, record: SessionRecord, seconds: float) -> None:
        self.heard.append((record.id, int(seconds)))

    def on_active(self, record: SessionRecord) -> None:
        self.heard.append((record.id, "active"))

    def on_consumed(self, record: SessionRecord) -> None:
        """Nothing to be written down."""

    def unread_limit(self, record: SessionRecord) -> float | None:
        return self.limit

    def on_read(self, record: SessionRecord) -> None:
        self.limit = None
        self.heard.append((record.id, "read"))

    def on_unread(self, record: SessionRecord, sure: bool) -> None:
        self.heard.append((record.id, "unread" if sure else "unknown"))

    def news(self) -> list[float | str]:
        """Return what has been heard since the last call, of one session."""
        heard, self.heard = self.heard, []
        return [what for _, what in heard]


Attend = Callable[..., Awaitable[IdleWatch]]


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def attend(lab: FakeLab, book: Book) -> Attend:
    """Let a watch for idle sessions run, and return it."""

    async def start() -> IdleWatch:
        watch = IdleWatch(lab.engine, lambda: lab.records, book, lab.rate)
        await lab.watch(watch)
        return watch

    return start


async def test_session_that_nobody_ever_consumes_is_idle_since_it_runs(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    begun = lab.hours.now()
    watch = await attend()
    await lab.hours.pass_by(20.5)
    assert watch.idle_since(record) == begun
    assert book.news() == [5, 10, 15, 20, 20]


async def test_timeout_is_noticed_when_it_is_reached(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    book.timeout = 100.0  # looks every 15 s
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    await attend()
    await lab.hours.pass_by(101)
    assert book.news() == [30, 45, 60, 75, 90, 100]


async def test_consumer_makes_it_active_and_its_leaving_idle_again(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    watch = await attend()
    await lab.hours.pass_by(6)
    assert book.news() == [5]
    lab.says(record, frames=1, dropped=0, consumers=1)
    await lab.hours.pass_by(5)
    assert book.news() == ["active"]
    assert watch.idle_since(record) is None
    await lab.hours.pass_by(30)
    assert book.news() == [], "who is held up by a slow consumer is not idle"
    gone = lab.hours.now()
    lab.says(record, frames=9, dropped=0, consumers=0)
    await lab.hours.pass_by(5)
    since = watch.idle_since(record)
    assert since is not None
    assert gone <= since <= gone + 5, "at most a step late"
    await lab.hours.pass_by(20)
    assert book.news() == [5, 10, 15, 20, 20]


async def test_visit_between_two_looks_counts(lab: FakeLab, book: Book, attend: Attend) -> None:
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    watch = await attend()
    await lab.hours.pass_by(7)
    assert book.news() == [5]
    for _ in range(8):
        lab.says(record, frames=1, dropped=0, consumers=1)
        lab.says(record, frames=5, dropped=0, consumers=0)
        await lab.hours.pass_by(5)
        since = watch.idle_since(record)
        assert since is not None
        assert lab.hours.now() - since <= 5
    assert book.news() == ["active"]


async def test_live_stage_that_goes_on_without_consumers_is_idle(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    record = await lab.session()
    watch = await attend()
    for second in range(30):
        lab.says(record, frames=second, dropped=0, consumers=0)
        await lab.hours.pass_by(1)
    since = watch.idle_since(record)
    assert since is not None
    assert lab.hours.now() - since >= 25


async def test_stage_that_reports_frames_only_is_judged_by_them(
    lab: FakeLab, attend: Attend
) -> None:
    record = await lab.session()
    watch = await attend()
    lab.says(record, frames=1)
    await lab.hours.pass_by(6)
    lab.says(record, frames=2)
    await lab.hours.pass_by(5)
    assert watch.idle_since(record) is None
    await lab.hours.pass_by(5)
    assert watch.idle_since(record) is not None


async def test_stage_that_does_not_report_is_judged_by_what_it_sends(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    record = await lab.session()
    stream = record.provisioned.containers["stream"]
    begun = lab.hours.now()
    lab.meter.sent[stream] = 500
    watch = await attend()
    await lab.hours.pass_by(6)
    assert watch.idle_since(record) == begun
    lab.meter.sent[stream] += 65_536
    await lab.hours.pass_by(5)
    assert watch.idle_since(record) is None
    await lab.hours.pass_by(21)
    assert book.news() == [5, "active", 5, 10, 15, 20, 20]


async def test_what_the_system_sends_by_itself_is_no_reader(lab: FakeLab, attend: Attend) -> None:
    """Podman leaves IPv6 on, which asks for routers for as long as there are none."""
    record = await lab.session()
    stream = record.provisioned.containers["stream"]
    begun = lab.hours.now()
    lab.meter.sent[stream] = 500
    watch = await attend()
    for _ in range(20):
        lab.meter.sent[stream] += 86
        await lab.hours.pass_by(5)
    assert watch.idle_since(record) == begun


async def test_session_met_long_after_its_start_is_given_its_time(
    lab: FakeLab, attend: Attend
) -> None:
    record = await lab.session()
    lab.meter.sent[record.provisioned.containers["stream"]] = 500
    await lab.hours.pass_by(3600)
    met = lab.hours.now()
    watch = await attend()
    await lab.hours.pass_by(1)
    since = watch.idle_since(record)
    assert since is not None
    assert since >= met


async def test_stage_that_gives_no_sign_is_never_idle(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    record = await lab.session()
    watch = await attend()
    await lab.hours.pass_by(100)
    assert watch.idle_since(record) is None
    assert book.news() == []


# Whether it was ever read


@pytest.fixture
def unread(book: Book) -> Book:
    """Hooks that want to know of nothing but whether a session was ever read."""
    book.timeout, book.limit = None, 100.0
    return book


async def test_stage_that_has_only_said_that_it_listens_is_unread(
    lab: FakeLab, unread: Book, attend: Attend
) -> None:
    """N2: told at each look, and once more when the limit is reached."""
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    await attend()
    await lab.hours.pass_by(101)
    assert unread.news() == ["unread"] * 8, "seven looks in 100 s, and one at the end"


@pytest.mark.parametrize(
    "said",
    [{"frames": 3}, {"consumers": 1}, {"frames": 3, "consumers": 0}, {"frames": 0, "consumers": 1}],
    ids=str,
)
async def test_one_report_of_a_reader_is_enough(
    lab: FakeLab, unread: Book, attend: Attend, said: dict[str, int]
) -> None:
    """N2: it is told once, and then nothing is asked any more."""
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    await attend()
    await lab.hours.pass_by(20)
    lab.says(record, **said)
    lab.says(record, frames=said.get("frames", 0), consumers=0)
    await lab.hours.pass_by(15)
    assert unread.news()[-1] == "read"
    asked = len(lab.meter.script.calls)
    await lab.hours.pass_by(1000)
    assert unread.news() == []
    assert len(lab.meter.script.calls) == asked


async def test_reports_of_no_reader_are_unread(lab: FakeLab, unread: Book, attend: Attend) -> None:
    """N2: a stage may report all the time that nobody is there."""
    record = await lab.session()
    await attend()
    for _ in range(10):
        lab.says(record, frames=0, consumers=0)
        await lab.hours.pass_by(10)
    assert "read" not in unread.news()


@pytest.mark.parametrize("line", [None, "hello", '{"type":"report","dice":1}'], ids=str)
async def test_stage_that_says_nothing_of_readers_is_unknown(
    lab: FakeLab, unread: Book, attend: Attend, line: str | None
) -> None:
    """N2: an image that prints no reports may well be read; nobody knows."""
    record = await lab.session()
    if line is not None:
        lab.meter.world.write(record.provisioned.containers["stream"], line)
    await attend()
    await lab.hours.pass_by(200)
    assert set(unread.news()) == {"unknown"}


async def test_stage_that_writes_more_than_is_read_is_unknown_until_it_reports(
    lab: FakeLab, unread: Book, attend: Attend
) -> None:
    """N2: the report of a reader may have been among what was not read."""
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    await attend()
    await lab.hours.pass_by(1)
    assert unread.news() == ["unread"]
    for number in range(100):
        lab.meter.world.write(record.provisioned.containers["stream"], f"noise {number}")
    await lab.hours.pass_by(30)
    assert set(unread.news()) == {"unknown"}
    lab.says(record, frames=0, consumers=0)
    await lab.hours.pass_by(15)
    assert unread.news() == ["unread"], "it counts frames from the start"


# Nothing to look for


async def test_without_an_idle_timeout_nothing_is_asked(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    book.timeout = None
    record = await lab.session()
    watch = await attend()
    lab.looks()
    await lab.hours.pass_by(100)
    assert lab.meter.script.calls == []
    assert watch.idle_since(record) is None


async def test_engine_that_was_away_hides_no_visit(
    lab: FakeLab, book: Book, attend: Attend
) -> None:
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    watch = await attend()
    lab.meter.world.lose()
    await lab.hours.pass_by(60)
    lab.says(record, frames=1, dropped=0, consumers=2)
    lab.meter.world.come_back()
    await lab.hours.pass_by(5)
    assert watch.idle_since(record) is None
    assert book.news() == []


async def test_ended_session_is_idle_no_more(lab: FakeLab, book: Book, attend: Attend) -> None:
    record = await lab.session()
    lab.meter.world.write(record.provisioned.containers["stream"], LISTENING)
    watch = await attend()
    lab.end(record)
    assert watch.idle_since(record) is None
    await lab.hours.pass_by(60)
    assert book.news() == []


# Real processes


BUSY = """
block = bytearray(b"x" * (48 << 20))
print("ready", flush=True)
while True:
    pass
"""


async def test_processes_are_measured(tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-S", "-c", BUSY)
    lab = Lab(Hours(), ProcessEngine(tmp_path, {"busy": command}))
    try:
        record = await lab.session("busy")
        for container_id in record.provisioned.containers.values():
            await anext(lab.engine.follow_logs(container_id, 1))
        await lab.watch(lab.measure())
        await lab.hours.pass_by(2.5)
        assert record.observed.usage.keys() == set(STAGES)
        assert all(use.peak.memory > 48 * MIB for use in record.observed.usage.values())
        assert all(use.peak.cpus > 0 for use in record.observed.usage.values())
    finally:
        await lab.close()
