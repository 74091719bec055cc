# SPDX-License-Identifier: MIT
"""`operatord demo`: what it shows, and that whoever stops it half-way is left with nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = (sys.executable, "-m", "operatord", "demo", "--engine", "process")


def at_home_in(folder: Path) -> list[str]:
    """Return the programs whose working directory is, or was, below ``folder``."""
    found = psutil.process_iter(["cwd", "cmdline"])
    return [
        " ".join(p.info["cmdline"]) for p in found if (p.info["cwd"] or "").startswith(str(folder))
    ]


def test_demo_says_what_it_uses_and_that_nothing_is_left() -> None:
    done = subprocess.run([*DEMO, "--count", "40"], check=True, capture_output=True, text=True)
    assert "process: it was asked for" in done.stdout
    assert "40 of 40 frames" in done.stdout
    assert "0 stages and 0 networks" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_it_half_way_is_left_with_nothing(tmp_path: Path, number: int) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        # Whoever runs the tests may have one of them ignored, as nohup has, and that is inherited.
        ["env", "--default-signal", *DEMO, "--count", "100000"],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        try:
            while "location" not in demo.stdout.readline():
                assert demo.poll() is None, "it ended by itself"
            assert at_home_in(tmp_path) != []
            os.killpg(demo.pid, number)  # as a terminal does it
            assert demo.wait(60) == 128 + number
        finally:
            demo.kill()
    assert at_home_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
