# SPDX-License-Identifier: MIT
"""On busy cores, a stage that only had no turn is tried again before it is said to be wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from operatord.conformance.command import BUSY, examined
from operatord.conformance.seen import Reading, Seen
from operatord.conformance.subject import Asked, usual
from operatord.conformance.verdict import Evidence

NOTHING = Evidence(usual(Asked("mine"), "probe"), {})
GREETED = Evidence(
    NOTHING.subject, {"plain": Seen({"check": Reading("json", {"type": "hello"}, 0.01)})}
)
"""The better one: it has said its hello."""


class Attempts:
    """Gives one after the other."""

    def __init__(self, *found: Evidence) -> None:
        self.left: Iterator[Evidence] = iter(found)
        self.notes: list[str] = []

    async def __call__(self) -> Evidence:
        return next(self.left)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Processes that want to run, for each core."""
    each = [2.0 * BUSY]
    monkeypatch.setattr(os, "getloadavg", lambda: (each[0] * (os.cpu_count() or 1), 0.0, 0.0))
    return each


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("found", [(NOTHING, GREETED), (GREETED, NOTHING)])
async def test_the_better_one_of_two_counts(found: tuple[Evidence, Evidence]) -> None:
    attempts = Attempts(*found)
    assert await examined(attempts, attempts.notes.append) is GREETED
    assert "busy" in attempts.notes[0]


async def test_on_calm_cores_the_first_one_counts(load: list[float]) -> None:
    load[0] = 0.5
    attempts = Attempts(NOTHING)
    assert await examined(attempts, attempts.notes.append) is NOTHING
    assert attempts.notes == []
