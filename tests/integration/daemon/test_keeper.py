# SPDX-License-Identifier: MIT
"""What is to run as long as the daemon: each of its parts is broken here, and seen to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Lab, StillClock, Wire, in_process, settings, until

from operatord.daemon import learned
from operatord.engines.base import EngineError, EngineUnavailable
from operatord.machine.keeper import FIRST_PAUSE, LONGEST_PAUSE, SOUND, Keeper

SECRET = "/etc/secret"
"""What must not get out."""
Target = Callable[[Lab], tuple[Any, str]]

TASKS: dict[str, Target] = {
    "the watch over the engine": lambda lab: (lab.daemon.link.watch, "_watch"),
    "what compares sessions with the engine": lambda lab: (lab.daemon.reconciler, "look"),
    "what writes down what was learned": lambda lab: (lab.daemon.learned, "write"),
    "the watch over the machine": lambda lab: (lab.daemon.host, "_try_sample"),
    "what prepares slots": lambda lab: (lab.daemon.supervisor.slots, "_lacking"),
    "the watch over use": lambda lab: (_poller(lab, "the watch over use"), "_follow"),
    "the watch for idle sessions": lambda lab: (
        _poller(lab, "the watch for idle sessions"),
        "_follow",
    ),
    "the watch for stalls": lambda lab: (_poller(lab, "the watch for stalls"), "_follow"),
}
"""For each task, what it calls again and again."""


def _poller(lab: Lab, name: str) -> Any:
    run: Any = lab.daemon.looks[name]
    return run.__self__._poller


class Broken:
    """In place of a method: raises once, and does its work from then on."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise KeyError(SECRET)
        return self._method(*args, **kwargs)


async def troubles(wire: Wire) -> dict[str, Any]:
    return {each["task"]: each for each in (await wire.call("system.status"))["troubles"]}


@pytest.mark.parametrize("name", TASKS)
async def test_task_that_breaks_is_begun_again_and_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """E2: nothing that is to run as long as the daemon dies in silence."""
    monkeypatch.setattr(learned, "LEARNED_EVERY", 0.05)
    async with in_process(tmp_path / "s") as lab:
        wire = await lab.wire()
        assert await troubles(wire) == {}
        owner, method = TASKS[name](lab)
        broken = Broken(getattr(owner, method))
        monkeypatch.setattr(owner, method, broken)
        if name == "the watch over the engine":  # it is in there already: let it come out
            lab.fake.world.lose()
            await until(
                lambda: lab.daemon.supervisor.availability.state == "unavailable", "it is lost"
            )
            lab.fake.world.come_back()
        lab.daemon.link.watch._missed.set()  # a comparison is due now
        await until(lambda: broken.calls >= 2, "it was begun again")
        shown = (await troubles(wire))[name]
        assert (shown["times"], SECRET in str(shown), "KeyError" in shown["error"]) == (
            1,
            False,
            True,
        )
        assert shown["since"] == shown["last"]
        assert (await wire.call("session.start"))["phase"] == "running"
    assert SECRET in caplog.text, "the log has the details"


@pytest.mark.parametrize("call", ["alive", "connect", "events"])
async def test_engine_that_raises_what_it_should_not_is_lost_and_comes_back(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """E2: a library's own error (paramiko's, a missing ``fileno``) is the engine's, not the watch's end."""
    await wire.call("events.subscribe", types=["engine.lost", "engine.back"])
    broken = Broken(getattr(lab.fake, call))
    monkeypatch.setattr(lab.fake, call, broken)
    if call != "alive":
        lab.fake.world.lose()
        await wire.event("engine.lost")
        lab.fake.world.come_back()
    lab.daemon.link.watch.asked()
    await until(lambda: broken.calls >= 2, "it is asked again")
    await wire.event("engine.back")
    assert (await troubles(wire))["the watch over the engine"]["times"] == 1
    session = await wire.call("session.start", plain_stream=True)
    lab.fake.world.end(session["stream"])
    ended = await wire.call("session.wait", session_id=session["session_id"], phase="ended")
    assert ended["outcome"] == "completed", "ends are heard of"


async def test_journal_whose_writing_breaks_keeps_what_was_noted_and_goes_on(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: what was noted when a commit met a defect is written later."""
    broken = Broken(lab.daemon.journal._commit)
    monkeypatch.setattr(lab.daemon.journal, "_commit", broken)
    refused = await wire.refusal("session.start", on_shortage="refuse")
    assert SECRET not in str(refused)
    await until(lambda: lab.daemon.journal.problem is None and broken.calls > 1, "it is written")
    assert (await wire.call("session.start"))["phase"] == "running"


async def test_what_was_noted_when_a_commit_broke_is_in_the_journal_afterwards(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: whoever noted it is not there any more to note it again."""
    journal = lab.daemon.journal
    await journal.settled()
    broken = Broken(journal._commit)
    monkeypatch.setattr(journal, "_commit", broken)
    journal.note_fact("a fact", b"1")
    await until(lambda: journal.fact("a fact") == b"1", "it is written")
    assert broken.calls > 1


async def test_removal_that_meets_a_defect_is_tried_again(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: the task that lives a session ends with it, and not before."""
    session_id = (await wire.call("session.start"))["session_id"]
    starter = lab.daemon.supervisor._starter
    monkeypatch.setattr(starter, "remove", Broken(starter.remove))
    ended = await wire.call("session.stop", session_id=session_id)
    assert ended["phase"] == "ended"
    assert lab.fake.empty


async def test_slot_that_meets_a_defect_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: what prepares slots goes on, and does not count one that was never made."""
    config = [{"pipelines": {"stream": {"warm": 0}}}]
    async with in_process(tmp_path / "s", reread=lambda: settings(tmp_path / "s", *config)) as lab:
        starter = lab.daemon.supervisor._starter
        broken = Broken(starter.prepare)
        monkeypatch.setattr(starter, "prepare", broken)
        config[0] = {"pipelines": {"stream": {"warm": 1}}}
        await (await lab.wire()).call("system.reload")
        await until(lambda: broken.calls >= 2, "another is made")
        assert len(list(lab.daemon.supervisor.slots)) <= 1


@pytest.fixture
async def noted(lab: Lab) -> AsyncIterator[Lab]:
    """A daemon that has the event loop to itself, as `operatord serve` has."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    lab.daemon.note_what_breaks()
    yield lab
    loop.set_exception_handler(before)


async def test_who_waits_is_told_where_it_stands_though_telling_broke_once(
    noted: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: what a timer calls is no task, and is shown and gone on with like one."""
    noted.measure(available=0)
    teller = noted.daemon.supervisor.transitions._notifier
    monkeypatch.setattr(teller, "refresh", Broken(teller.refresh))
    first, second = await noted.wire(), await noted.wire()
    first.begin("session.start", wait="accepted")

    async def shown() -> bool:
        return "what is done later, or on the side" in await troubles(wire)

    await until(shown, "it is shown")
    second.begin("session.start")
    assert (await second.note(lambda said: said.get("position") == 2))["reason"]


async def test_defect_in_what_is_done_for_a_session_is_shown(lab: Lab, wire: Wire) -> None:
    """E2"""

    async def broken() -> None:
        raise KeyError(SECRET)

    await asyncio.wait([lab.daemon.supervisor.transitions.own(broken())])
    assert (await troubles(wire))["what is done for a session"]["times"] == 1


class Restless:
    """Work that ends each time in the same way."""

    def __init__(self, *, raises: bool) -> None:
        self.times = 0
        self._raises = raises

    async def __call__(self) -> None:
        self.times += 1
        if self._raises:
            raise OSError(SECRET)


@pytest.mark.parametrize("raises", [True, False])
async def test_pauses_grow_and_begin_anew_after_a_sound_time(
    monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    """E2: begun again with back-off, also what merely comes to an end."""
    clock, pauses, enough = StillClock(), [], asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            enough.set()
            await asyncio.Event().wait()

    work = Restless(raises=raises)

    async def sound_at_last() -> None:
        if work.times == 11:
            clock.advance(SOUND)
        await work()

    monkeypatch.setattr("operatord.machine.keeper.asyncio.sleep", pause)
    keeper = Keeper(clock)
    keeper.keep("something", sound_at_last)
    await enough.wait()
    await keeper.close()
    await keeper.close()
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[9:] == [LONGEST_PAUSE, LONGEST_PAUSE, FIRST_PAUSE]
    [trouble] = keeper.troubles()
    assert (trouble.task, trouble.times) == ("something", 12)
    assert trouble.since < trouble.last


async def test_what_is_meant_for_the_caller_gets_to_it_and_the_rest_is_noted() -> None:
    """E2: an engine's loss is no defect of the daemon's."""
    keeper = Keeper(StillClock())

    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(EngineUnavailable):
        await keeper.attempt("a task", lambda: fail(EngineUnavailable("gone")), EngineError)
    assert keeper.troubles() == []
    await keeper.attempt("a task", lambda: fail(KeyError(SECRET)), EngineError)
    assert [trouble.task for trouble in keeper.troubles()] == ["a task"]
