# SPDX-License-Identifier: MIT
"""The places at which a daemon can be made to die."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_engine import FakeEngine, World

from operatord.engines import base
from operatord.machine import failpoints

UNHARMED = {
    "alive",
    "holder",
    "attach_stdin",
    "subnets_in_use",
    "address",
    "follow_logs",
    "stats",
    "events",
    "be_patient",
    "close",
}
"""Calls that change nothing, and whose answers lead to no change by themselves."""
PULLING = {"pull"}
"""Begins before anything of a start is made; a death leaves an image at most, as any pull does."""
ASKING = {"assume", "find_out"}
"""What is done once for each version of an engine. What a death leaves of it is an orphan, which the contract
suite shows (`test_container_that_was_asked_with_is_an_orphan_when_we_die`)."""


def died(place: str, name: str, visits: int) -> bool:
    """Tell whether a process of its own dies when it visits the failpoint ``name`` so often."""
    program = (
        f"from operatord.machine.failpoints import hit\nfor _ in range({visits}): hit({name!r})"
    )
    env = {"OPERATORD_FAILPOINT": place, "PYTHONPATH": ":".join(sys.path)}
    code = subprocess.run([sys.executable, "-c", program], env=env, check=False).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_daemon_dies_at_the_visit_that_is_named_and_nowhere_else(tmp_path: Path) -> None:
    assert died("engine.stop.after:2", "engine.stop.after", 2)
    assert not died("engine.stop.after:2", "engine.stop.after", 1)
    assert not died("engine.stop.after", "engine.stop.before", 1)
    armed = tmp_path / "armed"
    assert not died(f"engine.stop.after:1@{armed}", "engine.stop.after", 3)
    armed.touch()
    assert died(f"engine.stop.after:1@{armed}", "engine.stop.after", 1)


def test_engine_is_not_wrapped_unless_it_is_to_fail() -> None:
    engine = FakeEngine("test", World({}))
    assert failpoints.fail_around(engine) is engine


def test_every_call_of_an_engine_has_its_failpoints_or_a_reason() -> None:
    calls = {name for name, _ in inspect.getmembers(base.Engine, inspect.isfunction)}
    calls = {name for name in calls if not name.startswith("_")}
    named = {name.split(".")[1] for name in failpoints.FAILPOINTS if name.startswith("engine.")}
    assert calls - UNHARMED - PULLING - ASKING == named


async def test_call_goes_past_its_failpoints_to_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visited: list[str] = []
    monkeypatch.setattr(failpoints, "hit", visited.append)
    failing = failpoints.FailingEngine(FakeEngine("test", World({})))
    assert await failing.image_ids(["no-such-image"]) == {}
    assert visited == ["engine.image_ids.before", "engine.image_ids.after"]
