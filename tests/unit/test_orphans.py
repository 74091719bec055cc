# SPDX-License-Identifier: MIT
"""What a run of the tests has started ends with it, also when it is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orphans
import pytest

RUN = f"""
import subprocess, sys
sys.path.append({str(Path(orphans.__file__).parent)!r})
import orphans
guard = orphans.begin()
subprocess.Popen([sys.executable, "-c", {{!r}}], start_new_session=True)
sys.stdin.read()
"""
SAYS_WHEN_IT_RUNS = "import signal, sys; print('runs', flush=True); "
ENDS = SAYS_WHEN_IT_RUNS + "signal.pause()"
CLEANS_UP = (
    "import signal; signal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), exit())); "
    + ENDS
)
"""As a daemon does, that takes along what it has started."""
HANDS_ON = (
    "import subprocess, sys, time; "
    f"subprocess.Popen([sys.executable, '-c', {ENDS!r}], start_new_session=True)"
)


@contextlib.contextmanager
def a_run(program: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs tests, and has started ``program``, whose output it shares."""
    command = (sys.executable, "-c", RUN.format(program))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


@pytest.mark.parametrize("program", [ENDS, HANDS_ON], ids=["a child", "a grandchild"])
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ended"])
def test_what_a_run_has_started_ends_with_it(program: str, killed: bool) -> None:
    with a_run(program) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "runs\n"
        if killed:
            run.kill()
        else:
            assert run.stdin is not None
            run.stdin.close()
        assert run.stdout.read() == "", "nobody has the other end any more"


def test_it_is_asked_to_end_before_it_is_killed() -> None:
    with a_run(CLEANS_UP) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "runs\n"
        run.kill()
        assert run.stdout.read() == "asked\n"
