# SPDX-License-Identifier: MIT
"""An engine that is slow or lost: what has begun goes on, who can wait does, and who cannot is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from daemon_lab import Lab, Refused, StreamingFake, Wire, in_process, until

from operatord.engine_link import monitor as watch
from operatord.engines.base import EngineFailed, EngineSilent, EngineUnavailable, NoDescriptors

IMPATIENT = {"engine_patience": 1}
STEPS = ["image_ids", "create_network", "create", "start", "connect_stage"]


def test_silence_is_noticed_within_a_second_of_being_asked_for_something() -> None:
    """S2: who asked for ``refuse`` is refused within a second."""
    assert watch.SOONEST + watch.SILENT + watch.STEP < 1


async def refused(wire: Wire, request: int) -> Refused:
    with pytest.raises(Refused) as caught:
        await wire.reply(request)
    return caught.value


async def pinged_again(lab: Lab) -> None:
    before = lab.fake.pongs
    await until(lambda: lab.fake.pongs > before, "it has answered another ping")


async def is_in_state(lab: Lab, state: str) -> None:
    await until(lambda: lab.daemon.supervisor.availability.state == state, f"the engine is {state}")


async def test_who_would_rather_be_refused_is_told_while_the_engine_is_silent(
    lab: Lab, wire: Wire
) -> None:
    """S2"""
    gate = lab.fake.script.hold("image_ids")
    lab.fake.hang()
    error = await refused(wire, wire.begin("session.start", on_shortage="refuse"))
    assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)
    assert "is slow" in error.message
    error = await wire.refusal("session.start", on_shortage="refuse")
    assert error.type == "engine_unavailable"
    plan = await wire.call("session.plan", on_shortage="refuse")
    assert (plan["decision"], plan["explanation"]["type"]) == ("refuse", "engine_unavailable")
    lab.fake.come_round()
    gate.open.set()
    await until(lambda: not lab.daemon.supervisor.registry.living(), "nothing is left of it")
    await is_in_state(lab, "up")
    assert (await wire.call("session.start", on_shortage="refuse"))["phase"] == "running"


async def test_start_has_the_engine_asked_at_once_whether_it_is_there(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2: its silence counts from then on, and not from the next ping of a daemon at rest."""
    asked = asyncio.Event()
    monkeypatch.setattr(lab.daemon.supervisor.availability, "on_ask", asked.set)
    gate = lab.fake.script.hold("image_ids")
    start = wire.begin("session.start")
    await gate.reached.wait()
    assert asked.is_set()
    gate.open.set()
    await wire.reply(start)


async def test_engine_that_takes_its_time_to_answer_first_refuses_nobody(tmp_path: Path) -> None:
    """On busy cores an engine takes seconds to say who it is; nobody is let in before it has."""
    engine = StreamingFake()
    gate = engine.script.hold("connect")
    asyncio.get_running_loop().call_later(2.5, gate.open.set)
    async with in_process(tmp_path / "s", engine=engine) as lab:
        assert (await (await lab.wire()).call("session.start"))["phase"] == "running"


async def test_daemon_serves_without_an_engine_that_says_nothing(tmp_path: Path) -> None:
    engine = StreamingFake()
    engine.script.hold("connect")
    async with in_process(tmp_path / "s", IMPATIENT, engine=engine) as lab:
        error = await (await lab.wire()).refusal("session.start")
        assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)


async def test_engine_that_never_answered_is_not_said_to_be_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """N21: nothing was lost that was never there."""
    engine = StreamingFake()
    engine.world.lose()
    async with in_process(tmp_path / "s", IMPATIENT, engine=engine) as lab:
        assert "engine fake has not been reached yet: the fake engine is lost" in caplog.text
        engine.world.come_back()
        await is_in_state(lab, "up")
        assert "engine fake is lost" not in caplog.text
        engine.world.lose()
        await until(lambda: "engine fake is lost" in caplog.text, "it is told as lost now")


async def test_who_can_wait_is_queued_while_the_engine_is_slow(lab: Lab, wire: Wire) -> None:
    """S2: new starts queue with that reason, and run once it answers."""
    lab.fake.hang()
    lab.daemon.link.watch.asked()
    await is_in_state(lab, "slow")
    engine = (await wire.call("system.status"))["engine"]
    assert engine["state"] == "slow"
    assert engine["silent_for"] >= watch.SILENT
    assert "is slow" in engine["reason"]
    plan = await wire.call("session.plan")
    assert (plan["decision"], plan["explanation"]["dimension"]) == ("queue", "engine")
    start = wire.begin("session.start")
    note = await wire.note(lambda said: said.get("position") == 1)
    assert "new starts wait until it answers" in note["reason"]
    other = await lab.wire()
    accepted = await other.call("session.start", wait="accepted")
    assert accepted["phase"] == "queued"
    late = await other.refusal("session.start", deadline=0.2)
    assert late.type == "deadline_exceeded"
    lab.fake.come_round()
    assert (await wire.reply(start))["phase"] == "running"
    await other.call("session.wait", session_id=accepted["session_id"], phase="running")
    engine = (await wire.call("system.status"))["engine"]
    assert (engine["state"], engine["silent_for"]) == ("up", 0)
    assert "reason" not in engine


@pytest.mark.parametrize("way", ["queue", "refuse", "degrade"])
@pytest.mark.parametrize("step", STEPS)
async def test_what_has_begun_is_not_given_up_while_the_engine_is_slow(
    lab: Lab, wire: Wire, step: str, way: str
) -> None:
    """S2: an engine that is silent in the middle of a start costs time, and nothing else."""
    gate = lab.fake.script.hold(step)
    start = wire.begin("session.start", on_shortage=way)
    await gate.reached.wait()
    await pinged_again(lab)
    lab.fake.hang()
    await is_in_state(lab, "slow")
    lab.fake.come_round()
    await is_in_state(lab, "up")
    gate.open.set()
    assert (await wire.reply(start))["phase"] == "running"


async def test_four_starts_in_the_middle_of_which_the_engine_is_silent_are_four_sessions(
    lab: Lab,
) -> None:
    """S2"""
    gates = [lab.fake.script.hold(step) for step in ("create_network", "create", "create", "start")]
    wires = [await lab.wire() for _ in range(4)]
    starts = [wire.begin("session.start") for wire in wires]
    await gates[0].reached.wait()
    lab.fake.hang()
    await is_in_state(lab, "slow")
    lab.fake.come_round()
    for gate in gates:
        gate.open.set()
    sessions = [await wire.reply(start) for wire, start in zip(wires, starts, strict=True)]
    assert [session["phase"] for session in sessions] == ["running"] * 4


async def test_start_goes_on_though_the_engine_was_lost_if_it_turns_out_to_have_done_its_part(
    tmp_path: Path,
) -> None:
    """S2: what it did meanwhile is found out before anybody is told an end."""
    async with in_process(tmp_path / "s", {"engine_patience": 2}) as lab:
        wire, other = await lab.wire(), await lab.wire()
        await other.call("events.subscribe", types=["engine.lost", "engine.back"])
        gate = lab.fake.script.hold("create")
        start = wire.begin("session.start")
        await gate.reached.wait()
        lab.fake.hang()
        await other.event("engine.lost")
        assert (await other.call("system.status"))["engine"]["state"] == "unavailable"
        assert (await other.refusal("session.start")).type == "engine_unavailable"
        lab.fake.come_round()
        await other.event("engine.back")
        gate.open.set()
        assert (await wire.reply(start))["phase"] == "running"


async def test_start_on_an_engine_that_stays_lost_is_told_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    """S2: nobody waits for ever, and what is said then stays true."""
    async with in_process(tmp_path / "s", IMPATIENT) as lab:
        wire = await lab.wire()
        gate = lab.fake.script.hold("create")
        start = wire.begin("session.start")
        await gate.reached.wait()
        lab.fake.world.lose()
        error = await refused(wire, start)
        assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)
        assert "is removed when it does" in error.message
        lab.fake.world.come_back()
        gate.open.set()
        ended = await wire.call("session.wait", session_id=error.data["session_id"], phase="ended")
        assert (ended["outcome"], ended["cause"]) == ("failed", "engine_lost")
        assert (lab.fake.world.containers, lab.fake.world.networks) == ({}, {})


async def test_engine_that_has_never_answered_has_no_capabilities(tmp_path: Path) -> None:
    fake = StreamingFake()
    fake.world.lose()
    async with in_process(tmp_path / "s", engine=fake) as lab:
        wire = await lab.wire()
        await wire.call("events.subscribe", types=["engine.back"])
        for what in ("system.status", "system.describe"):
            engine = (await wire.call(what))["engine"]
            assert (engine["state"], "capabilities" in engine) == ("unavailable", False)
        fake.world.come_back()
        await wire.event("engine.back")
        assert (await wire.call("system.status"))["engine"]["capabilities"]["adopts"]


async def test_engine_that_refuses_connections_is_lost_at_once(lab: Lab, wire: Wire) -> None:
    """S2: a refused connection leaves nothing to be patient for."""
    await wire.call("events.subscribe", types=["engine.lost", "engine.back"])
    lab.fake.world.lose()
    await wire.event("engine.lost")  # long before its ten seconds
    engine = (await wire.call("system.status"))["engine"]
    assert engine["state"] == "unavailable"
    assert "the fake engine is lost" in engine["reason"]
    lab.fake.world.come_back()
    await wire.event("engine.back")


@pytest.mark.parametrize(("method", "call"), [("session.logs", "logs"), ("session.stats", "stats")])
async def test_question_about_a_session_is_not_left_open_and_the_session_goes_on(
    lab: Lab, wire: Wire, method: str, call: str
) -> None:
    session_id = (await wire.call("session.start"))["session_id"]
    gate = lab.fake.script.hold(call)
    asked = wire.begin(method, session_id=session_id)
    await gate.reached.wait()
    lab.fake.hang()
    error = await refused(wire, asked)
    assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)
    lab.fake.come_round()
    gate.open.set()
    await is_in_state(lab, "up")
    assert (await wire.call("session.get", session_id=session_id))["phase"] == "running"
    assert await wire.call(method, session_id=session_id)


class Leisurely(StreamingFake):
    """Answers a ping in a thread's time, as engines do."""

    async def alive(self) -> None:
        await asyncio.to_thread(time.sleep, 0.02)
        await super().alive()


async def test_daemon_that_was_held_up_itself_does_not_blame_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S2: for as long as a SIGSTOP, or cores that others keep busy, it has heard nothing of anybody."""
    async with in_process(tmp_path / "s", IMPATIENT, engine=Leisurely()) as lab:
        for _ in range(3):
            lab.daemon.link.watch.asked()
            await pinged_again(lab)
            lab.daemon.link.watch.asked()
            await asyncio.sleep(0.06)  # the next ping is out
            time.sleep(2)
            await pinged_again(lab)
    assert "has not answered a ping" not in caplog.text
    assert "is lost" not in caplog.text


class Stammering(StreamingFake):
    """Breaks off some answers to pings."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks_off = 0

    async def alive(self) -> None:
        if self.breaks_off:
            self.breaks_off -= 1
            raise EngineSilent("the engine broke off the connection")
        await super().alive()


async def test_ping_that_is_broken_off_is_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S2: an answer that got lost says nothing of whether there is an engine."""
    engine = Stammering()
    async with in_process(tmp_path / "s", engine=engine) as lab:
        engine.breaks_off = 3
        lab.daemon.link.watch.asked()
        await pinged_again(lab)
    assert engine.breaks_off == 0
    assert "is lost" not in caplog.text


async def test_engine_that_fails_to_list_and_answers_is_not_lost(
    lab: Lab, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """S2: one call that goes wrong is not the engine's end."""
    for error in (EngineFailed("status 500"), EngineUnavailable("no answer in 60 s")):
        lab.fake.script.fail("list_objects", error)
        lab.daemon.link.watch._missed.set()
        await until(lambda error=error: str(error) in caplog.text, "it is noticed")
    lab.daemon.link.watch._missed.set()
    assert (await wire.call("session.start"))["phase"] == "running"
    assert "is lost" not in caplog.text


async def test_engine_that_answers_that_it_failed_is_not_said_to_be_silent(
    lab: Lab, wire: Wire
) -> None:
    lab.fake.script.fail("create", EngineFailed("the engine failed to create it (status 500)"))
    error = await wire.refusal("session.start")
    assert error.type == "engine_unavailable"
    assert error.message == "the engine failed to create it (status 500) at the step 'create'"
    session = await wire.call("session.start")
    lab.fake.script.fail("stats", EngineFailed("the engine failed to measure it (status 500)"))
    error = await wire.refusal("session.stats", session_id=session["session_id"])
    assert "failed to measure it" in error.message


async def test_want_of_descriptors_is_not_the_engine_s_silence(
    lab: Lab, wire: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A7: nothing is concluded about the engine; who asks for something is told what to raise."""
    session = await wire.call("session.start")
    failed = asyncio.Event()

    async def alive() -> None:
        if failed.is_set():
            lasted.set()
        failed.set()
        raise NoDescriptors

    lasted = asyncio.Event()
    with monkeypatch.context() as short:
        short.setattr(lab.fake, "alive", alive)
        lab.daemon.link.watch.asked()
        await failed.wait()
        lab.fake.script.fail("list_objects", NoDescriptors())
        lab.daemon.link.watch._missed.set()
        lab.daemon.link.watch.asked()
        await lasted.wait()
        for operation, method, params in (
            ("create", "session.start", {}),
            ("stats", "session.stats", {"session_id": session["session_id"]}),
        ):
            lab.fake.script.fail(operation, NoDescriptors())
            error = await wire.refusal(method, **params)
            assert "no file descriptor left: raise its limit" in error.message
            assert "LimitNOFILE" in error.message
        assert (await wire.call("system.status"))["engine"]["state"] == "up"
    await pinged_again(lab)
    assert "is lost" not in caplog.text
    assert caplog.text.count("the engine cannot be asked whether it is there") == 1
    assert (await wire.call("session.start"))["phase"] == "running"
