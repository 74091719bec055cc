# SPDX-License-Identifier: MIT
"""What is said and done when the engine is lost and comes back, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from daemon_lab import StillClock

from operatord.engine_link.availability import EngineAvailability
from operatord.engine_link.link import EngineLink, LinkMeans
from operatord.engine_link.ownership import Ownership
from operatord.engines.base import EngineEvent, EngineInfo, EngineUnavailable, NotOurs
from operatord.lifecycle.engine_changes import EngineChanges

INFO = EngineInfo(name="test", version="1", api_version=None, cpus=2, memory=1 << 30, root_dir=None)
PATIENCE = 10.0


class Watched:
    """A link to an engine, and what came of it."""

    def __init__(self) -> None:
        self.emitted: list[str] = []
        self.told: list[str] = []
        self.doubts = 0
        self.images: list[str] = []
        self.exits = SimpleNamespace(missed_events=False)
        self.clock = StillClock()
        self.availability = EngineAvailability(self.clock)
        self.holder: str | None = "we"
        capabilities: Any = SimpleNamespace(
            settle=self._settle, image_came=lambda: self.images.append("one")
        )
        engine: Any = SimpleNamespace(name="test", claim=self._claim)
        ownership = Ownership(engine, "i", "we")
        means = LinkMeans(self._emit, self.clock, lambda: PATIENCE, "a test asks for it")
        self.link = EngineLink(engine, self.availability, ownership, capabilities, means)
        self.link._listener = self._listener()

    def _listener(self) -> Any:
        supervisor: Any = SimpleNamespace(
            exits=self.exits,
            slots=SimpleNamespace(images=SimpleNamespace(doubt=self._doubt)),
            transitions=None,
        )
        changes: Any = EngineChanges(supervisor, SimpleNamespace())
        return SimpleNamespace(
            connected=self._settle,
            answered=lambda news: self.told.append("up") if news else None,
            slow=lambda _, news: self.told.append("slow") if news else None,
            lost=lambda _: self.told.append("lost"),
            given_up=lambda _: self.told.append("given up"),
            not_ours=lambda: self.told.append("not ours"),
            gap=changes.gap,
            hint=changes.hint,
        )

    def _emit(self, type: str, **_: Any) -> None:
        self.emitted.append(type)

    def _doubt(self) -> None:
        self.doubts += 1

    async def _settle(self, info: EngineInfo) -> None:
        pass

    async def _claim(self, holder: str) -> str | None:
        return self.holder

    def lose(self, problem: str) -> None:
        self.link.lost(EngineUnavailable(problem))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_loss_is_an_event_once_and_each_new_reason_for_it_a_line(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """S2: an engine that is away for a day is tried 40 000 times."""
    for problem in ("no such file", "no such file", "permission denied", "permission denied"):
        watched.lose(problem)
    assert watched.emitted == ["engine.lost"]
    said = [record.message.partition(" has not been reached yet: ")[2] for record in caplog.records]
    assert said == ["no such file", "permission denied"]


async def test_engine_on_which_the_instance_is_anothers_was_reached(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """N7: so the log does not say that it was not."""
    watched.link.lost(NotOurs("the instance belongs to another state directory"))
    [record] = caplog.records
    assert " is not taken: the instance belongs to another" in record.message


async def test_nobody_is_given_up_once_the_engine_is_back(watched: Watched) -> None:
    """S2: whoever waited for a start that goes on now is not told that it has failed."""
    watched.lose("no such file")
    watched.clock.advance(PATIENCE - 1)
    await watched.link.up(INFO)
    watched.clock.advance(10 * PATIENCE)
    assert watched.told == ["lost", "up"]
    watched.lose("no such file")
    watched.lose("permission denied")
    watched.clock.advance(PATIENCE)
    assert watched.told == ["lost", "up", "lost", "lost", "given up"]


async def test_an_engine_that_was_away_may_have_done_anything_meanwhile(watched: Watched) -> None:
    """F2, F11: stages may have ended or been restarted, and images been made anew, unheard."""
    await watched.link.up(INFO)
    assert (watched.exits.missed_events, watched.doubts, watched.emitted) == (False, 0, [])
    watched.lose("no such file")
    await watched.link.up(INFO)
    assert (watched.exits.missed_events, watched.doubts) == (True, 1)
    assert watched.emitted == ["engine.lost", "engine.back"]


def test_image_that_comes_is_a_reason_to_look_at_slots_and_to_ask(watched: Watched) -> None:
    """E3: what an engine can do is asked with an image."""
    watched.link.hint(EngineEvent(kind="image", id="an-image", labels={}))
    assert (watched.doubts, watched.images) == (1, ["one"])


async def test_what_is_told_of_the_engine_is_told_once(watched: Watched) -> None:
    """S2: slow, lost and up are each news only when they change."""
    await watched.link.up(INFO)
    watched.link.answered()
    watched.link.silent(0.7)
    watched.link.silent(0.7)
    watched.link.answered()
    assert watched.told == ["up", "slow", "up"]
    assert (watched.availability.state, watched.availability.problem) == ("up", None)


async def test_instance_that_is_another_s_is_told_before_anything_is_done(watched: Watched) -> None:
    """N7: nothing is counted with, and nothing said to be up."""
    watched.holder = "somebody else"
    with pytest.raises(NotOurs):
        await watched.link.up(INFO)
    assert watched.told == ["not ours"]
    assert watched.availability.state == "unavailable"
