# SPDX-License-Identifier: MIT
"""Who hangs and who is only busy, with processes that do either."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from operatord.gate import vigil
from operatord.gate.vigil import Hung, Vigil

Run = Callable[[str], int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a program that says when it has begun, and look at it quickly."""
    monkeypatch.setattr(vigil, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(vigil, "LONGEST", 1.0)
    running: list[subprocess.Popen[bytes]] = []

    def begin(program: str) -> int:
        command = [sys.executable, "-c", f"print(flush=True)\n{program}"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert running[-1].stdout is not None
        running[-1].stdout.readline()
        return running[-1].pid

    yield begin
    for each in running:
        each.kill()
        each.communicate()


async def found_of(pid: int) -> str:
    """Return what is found of a process that never answers."""
    with pytest.raises(Hung) as hung:
        async with Vigil(lambda: pid):
            await asyncio.Event().wait()
    return str(hung.value)


async def test_one_that_sleeps_is_found(run: Run) -> None:
    pid, begun = run("import time; time.sleep(60)"), time.monotonic()
    assert await found_of(pid) == "does not answer: it sleeps"
    assert time.monotonic() - begun < vigil.LONGEST


async def test_one_that_is_stopped_is_found(run: Run) -> None:
    pid = run("while True: pass")
    os.kill(pid, signal.SIGSTOP)
    assert await found_of(pid) == "does not answer: it is stopped (SIGSTOP)"


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\nwhile True: time.sleep(0.001)",
    ],
    ids=["busy", "wakes"],
)
async def test_one_that_does_something_has_all_the_time(run: Run, program: str) -> None:
    assert await found_of(run(program)) == "has not answered for 1 s"


async def test_what_goes_wrong_in_between_is_what_is_raised(run: Run) -> None:
    pid = run("import time; time.sleep(60)")
    with pytest.raises(TimeoutError) as raised:
        async with Vigil(lambda: pid):
            raise TimeoutError("another one")
    assert str(raised.value) == "another one"
