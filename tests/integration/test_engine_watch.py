# SPDX-License-Identifier: MIT
"""An engine that hangs: whoever waits for it is told within a second, and nothing of a start is left."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from daemon_lab import Lab, Refused, StreamingFake, Wire, in_process, until

from operatord.engines.base import EngineFailed

SECOND = 1.0


async def refused(wire: Wire, request: int) -> Refused:
    with pytest.raises(Refused) as caught:
        await wire.reply(request)
    return caught.value


async def pinged_again(lab: Lab) -> None:
    before = lab.fake.pongs
    await until(lambda: lab.fake.pongs > before, "it has answered another ping")


async def test_requester_who_asks_an_engine_that_hangs_is_told_within_a_second(
    lab: Lab, wire: Wire
) -> None:
    gate = lab.fake.script.hold("missing_images")
    lab.fake.hang()
    begun = time.monotonic()
    error = await refused(wire, wire.begin("session.start"))
    assert time.monotonic() - begun < SECOND
    assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)
    assert "does not answer" in error.message
    lab.fake.come_round()
    gate.open.set()
    await until(lambda: not lab.daemon.supervisor.book.living(), "nothing is left of it")
    await until(lambda: lab.daemon.supervisor.reach.problem is None, "it answers again")
    assert (await wire.call("session.start"))["phase"] == "running"


async def test_who_asks_while_a_ping_is_out_is_told_as_soon(lab: Lab) -> None:
    gates = [lab.fake.script.hold("missing_images") for _ in range(4)]
    lab.fake.hang()

    async def ask(delay: float) -> tuple[str, float]:
        wire = await lab.wire()
        await asyncio.sleep(delay)
        begun = time.monotonic()
        error = await refused(wire, wire.begin("session.start"))
        return error.type, time.monotonic() - begun

    answers = await asyncio.gather(*map(ask, (0.0, 0.2, 0.5, 0.75)))
    assert {kind for kind, _ in answers} == {"engine_unavailable"}
    assert max(took for _, took in answers) < SECOND
    for gate in gates:
        gate.open.set()
    lab.fake.come_round()


async def test_engine_that_hangs_right_after_it_was_asked_is_no_exception(
    lab: Lab, wire: Wire
) -> None:
    gate = lab.fake.script.hold("missing_images")
    begun = time.monotonic()
    start = wire.begin("session.start")
    await gate.reached.wait()
    await pinged_again(lab)
    lab.fake.hang()
    assert (await refused(wire, start)).type == "engine_unavailable"
    assert time.monotonic() - begun < 2, "a second, and what a busy machine adds"
    lab.fake.come_round()
    gate.open.set()


@pytest.mark.parametrize("step", ["create_network", "create", "start", "connect_stage"])
async def test_start_under_way_is_told_and_leaves_nothing(lab: Lab, wire: Wire, step: str) -> None:
    gate = lab.fake.script.hold(step)
    start = wire.begin("session.start")
    await gate.reached.wait()
    for _ in range(6):
        await pinged_again(lab)
    lab.fake.hang()
    begun = time.monotonic()
    error = await refused(wire, start)
    assert time.monotonic() - begun < 2, "a second, and what a busy machine adds"
    assert "is removed when the engine is back" in error.message
    assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)
    lab.fake.come_round()
    gate.open.set()
    ended = await wire.call("session.wait", session_id=error.data["session_id"], phase="ended")
    assert (ended["outcome"], ended["cause"]) == ("failed", "engine_lost")
    assert (lab.fake.world.containers, lab.fake.world.networks) == ({}, {})


@pytest.mark.parametrize(("method", "call"), [("session.logs", "logs"), ("session.stats", "stats")])
async def test_question_about_a_session_is_not_left_open_and_the_session_goes_on(
    lab: Lab, wire: Wire, method: str, call: str
) -> None:
    session_id = (await wire.call("session.start"))["session_id"]
    gate = lab.fake.script.hold(call)
    asked = wire.begin(method, session_id=session_id)
    await gate.reached.wait()
    lab.fake.hang()
    begun = time.monotonic()
    error = await refused(wire, asked)
    assert time.monotonic() - begun < 2, "a second, and what a busy machine adds"
    assert (error.type, error.data["retryable"]) == ("engine_unavailable", True)
    lab.fake.come_round()
    gate.open.set()
    await until(lambda: lab.daemon.supervisor.reach.problem is None, "it answers again")
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
    async with in_process(tmp_path / "s", engine=Leisurely()) as lab:
        for _ in range(3):
            lab.daemon._watch.asked()
            await pinged_again(lab)
            lab.daemon._watch.asked()
            await asyncio.sleep(0.06)  # the next ping is out
            time.sleep(SECOND)
            await pinged_again(lab)
    assert "does not answer a ping" not in caplog.text


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
