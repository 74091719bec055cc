# SPDX-License-Identifier: MIT
"""`operatord demo`, `make demo`: what they show, and that whoever stops one half-way is left with nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from docker_lab import Engine

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


# On a container engine


MAKE = ("make", "-s", "-o", "venv-to-run", "demo")
"""As people type it, but that it installs nothing into the environment in which the tests run."""
ROOT = Path(__file__).parents[3]


def left_of(session: str) -> list[str]:
    """Return the names of what the engine has of a session."""
    with contextlib.closing(Engine()) as engine:
        ours = {"label": f"operatord.session={session}"}
        containers = engine.client.containers(all=True, filters=ours)
        networks = engine.client.networks(filters=ours)
    return [name for each in containers for name in each["Names"]] + [n["Name"] for n in networks]


def session_of(line: str) -> str:
    """Return the id of a session in the line that tells of it."""
    [found] = re.findall(r"\b[0-9A-F]{16}\b", line)
    return str(found)


@pytest.mark.engine
def test_make_demo_shows_a_session_on_the_engine_and_leaves_nothing() -> None:
    """S14: make takes the engine that answers."""
    demo = [*MAKE, "ARGS=--count 40"]
    done = subprocess.run(demo, cwd=ROOT, check=True, capture_output=True, text=True)
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[:10].strip())
    assert re.match(r"docker: version \S+ answers", said["engine"])
    assert said["received"].startswith("40 of 40 frames")
    assert said["left"] == "nothing: the engine lists 0 stages and 0 networks of this daemon"
    assert said["result"] == "it works"
    assert left_of(session_of(said["session"])) == []


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_half_way_leaves_nothing_on_the_engine(tmp_path: Path, number: int) -> None:
    """S14: stages, network and the daemon's directory."""
    command = (*DEMO[:-1], "docker", "--count", "100000")
    with subprocess.Popen(
        ["env", "--default-signal", *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        try:
            session = session_of(next(line for line in demo.stdout if "session " in line))
            assert len(left_of(session)) == 4
            os.killpg(demo.pid, number)
            assert demo.wait(60) == 128 + number
        finally:
            demo.kill()
    assert left_of(session) == []
    assert list(tmp_path.iterdir()) == []


def test_environment_of_the_demo_has_no_linters_and_no_tests(tmp_path: Path) -> None:
    """N20: who only looks does not wait for them; one that has them does for the demo as well."""
    shown = subprocess.run(
        ("make", "-n", "demo"), cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "tools/venv cli\n" in shown.stdout
    (tmp_path / "tools").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("tools/venv", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" >>installed\n')
    python.chmod(0o755)

    def installed(*extras: str) -> list[str]:
        (tmp_path / "installed").write_text("")
        subprocess.run((tmp_path / "tools" / "venv", *extras), check=True, capture_output=True)
        return re.findall(r"\.\[(.*)\]", (tmp_path / "installed").read_text())

    assert installed("cli") == ["cli"]
    assert installed("cli") == []
    assert installed() == ["cli,ssh,http,test,check"]
    assert installed("cli") == []
