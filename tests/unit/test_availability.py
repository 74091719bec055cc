# SPDX-License-Identifier: MIT
"""What is said and done when the engine is lost and comes back, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from daemon_lab import StillClock

from operatord.engines.base import EngineEvent, EngineInfo, EngineUnavailable
from operatord.runtime.availability import Availability, Means

INFO = EngineInfo(name="test", version="1", api_version=None, cpus=2, memory=1 << 30, root_dir=None)
PATIENCE = 10.0


class Watched:
    """An engine's availability, and what came of it."""

    def __init__(self) -> None:
        self.emitted: list[str] = []
        self.given_up: list[str] = []
        self.doubts = 0
        self.images: list[str] = []
        self.exits = SimpleNamespace(engine_was_away=False)
        self.clock = StillClock()
        supervisor: Any = SimpleNamespace(
            exits=self.exits,
            slots=SimpleNamespace(images=SimpleNamespace(doubt=self._doubt)),
            note_engine_up=lambda: None,
            note_engine_lost=lambda _: None,
            give_up_starts=self.given_up.append,
        )
        engine: Any = SimpleNamespace(name="test")
        means = Means(
            supervisor, self._emit, self.clock, lambda: PATIENCE, self._measure,
            lambda: self.images.append("one"),
        )  # fmt: skip
        self.availability = Availability(engine, "a test asks for it", means)

    def _emit(self, type: str, **_: Any) -> None:
        self.emitted.append(type)

    def _doubt(self) -> None:
        self.doubts += 1

    async def _measure(self, info: EngineInfo) -> None:
        pass

    def lose(self, problem: str) -> None:
        self.availability.lost(EngineUnavailable(problem))


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
    said = [record.message.partition(" is lost: ")[2] for record in caplog.records]
    assert said == ["no such file", "permission denied"]


async def test_nobody_is_given_up_once_the_engine_is_back(watched: Watched) -> None:
    """S2: whoever waited for a start that goes on now is not told that it has failed."""
    watched.lose("no such file")
    watched.clock.advance(PATIENCE - 1)
    await watched.availability.up(INFO)
    watched.clock.advance(10 * PATIENCE)
    assert watched.given_up == []
    watched.lose("no such file")
    watched.lose("permission denied")
    watched.clock.advance(PATIENCE)
    assert len(watched.given_up) == 1


async def test_an_engine_that_was_away_may_have_done_anything_meanwhile(watched: Watched) -> None:
    """F2, F11: stages may have ended or been restarted, and images been made anew, unheard."""
    await watched.availability.up(INFO)
    assert (watched.exits.engine_was_away, watched.doubts, watched.emitted) == (False, 0, [])
    watched.lose("no such file")
    await watched.availability.up(INFO)
    assert (watched.exits.engine_was_away, watched.doubts) == (True, 1)
    assert watched.emitted == ["engine.lost", "engine.back"]


def test_image_that_comes_is_a_reason_to_look_at_slots_and_to_ask(watched: Watched) -> None:
    """E3: what an engine can do is asked with an image."""
    watched.availability.hint(EngineEvent(kind="image", id="an-image", labels={}))
    assert (watched.doubts, watched.images) == (1, ["one"])
