# SPDX-License-Identifier: MIT
"""How long an engine is waited for, and how often it is asked anew for its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from operatord.engine_link import monitor as watch
from operatord.engine_link.monitor import EngineWatch
from operatord.engines.base import EngineEvent

STEP = 1e-9
"""Seconds: any wait takes longer, so that this process counts as one that was held up."""


async def test_a_process_that_is_held_up_waits_twice_as_long_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S2: on busy cores the engine gets more time, and one that is dead is lost all the same."""
    steps = 0

    async def wait(futures: Any, timeout: float) -> tuple[set[Any], set[Any]]:
        nonlocal steps
        steps += 1
        return set(), set(futures)

    monkeypatch.setattr(watch, "STEP", STEP)
    monkeypatch.setattr(watch.asyncio, "wait", wait)
    silent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert not await watch._done(silent, 10 * STEP)
    assert 20 <= steps <= 21  # halves of what is no power of two


class Talkative:
    """An engine whose stream of events ends again and again, after what is listed."""

    def __init__(self, *streams: int) -> None:
        self._streams = list(streams)

    async def events(self) -> AsyncIterator[EngineEvent]:
        if not self._streams:
            raise asyncio.CancelledError
        for _ in range(self._streams.pop(0)):
            yield EngineEvent(kind="exited", id="c", labels={})

    async def alive(self) -> None:
        pass


async def test_pauses_between_streams_of_events_grow_until_one_tells_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    done: list[str] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    reactions: Any = SimpleNamespace(
        hint=lambda _: done.append("hint"), gap=lambda: done.append("gap")
    )
    engine: Any = Talkative(0, 0, 0, 1, 0)
    watched = EngineWatch(engine, reactions, lambda: 10.0)
    monkeypatch.setattr(watch.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await watched._listen()
    assert pauses == [0.1, 0.2, 0.4, 0.1, 0.2]
    assert done == ["gap", "gap", "gap", "hint", "gap", "gap"]
    assert watched._missed.is_set(), "a relist is due"
