# SPDX-License-Identifier: MIT
"""A program that is forked off what has loaded it cannot be told from one that was started anew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import preloaded
import pytest
from daemon_lab import OPERATORD, clean_env, until

SERVE = (OPERATORD, "serve", "--engine", "process", "--listen", "127.0.0.1:0", "--state-dir")


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """What programs are forked off here, though all others may be started anew."""
    forked = preloaded.Preloaded()
    asyncio.run(until(forked.has_loaded, "it has loaded everything"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preloaded, "_preloaded", forked)
        patch.setattr(subprocess.Popen, "_execute_child", preloaded.execute_child)
        yield
    forked.close()


@contextlib.contextmanager
def mask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    yield
    os.umask(before)


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


@pytest.mark.parametrize("program", preloaded.PROGRAMS, ids=lambda each: Path(each[-1]).name)
def test_it_ends_as_it_would_and_says_the_same(program: tuple[str, ...]) -> None:
    for arguments in (["--version"], ["nonsense"], ["check-config", "no such file"], ["config"]):
        forked, anew = (
            subprocess.run([*program, *arguments], env=env, capture_output=True, check=False)
            for env in (clean_env(), {**clean_env(), "PYTHONHASHSEED": "1"})
        )
        assert (forked.returncode, forked.stdout, forked.stderr) == (
            anew.returncode, anew.stdout, anew.stderr,
        )  # fmt: skip


async def test_it_is_a_child_with_a_place_and_streams_of_its_own(tmp_path: Path) -> None:
    env = {**clean_env(), "OPERATORD_LOG_FORMAT": "json"}
    with (tmp_path / "out").open("wb") as out, mask(0o027):
        process = subprocess.Popen(
            [*SERVE, "s"], cwd=tmp_path, env=env, stderr=out, start_new_session=True
        )
    try:
        assert "preloaded.py" in command_line(process.pid)
        await until(lambda: "listening on" in (tmp_path / "out").read_text(), "it listens")
        assert os.getsid(process.pid) == process.pid
        assert "Umask:\t0027\n" in Path(f"/proc/{process.pid}/status").read_text()
        assert (tmp_path / "s" / "instance").exists()
        assert (tmp_path / "out").read_text().startswith("{")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_it_looks_at_the_variables_that_it_is_given(tmp_path: Path) -> None:
    """Those, too, that are read as a module is loaded."""
    env = {**clean_env(), "OPERATORD_FAILPOINT": "journal.commit.before"}
    with subprocess.Popen([*SERVE, str(tmp_path)], env=env, stderr=subprocess.PIPE) as process:
        assert "preloaded.py" in command_line(process.pid)
        assert process.stderr is not None
        assert b"listening" not in process.stderr.read()
    assert process.returncode == -signal.SIGKILL


def test_when_it_has_ended_nobody_has_its_streams() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen([*SERVE, "/dev/null"], stderr=theirs)
        theirs.close()
        with ours.makefile() as said:
            assert "/dev/null is not a directory" in said.read(), (
                "nobody has the other end any more"
            )
        assert process.wait(60) == 1


@pytest.mark.parametrize(
    "more", [{"env": {"PYTHONHASHSEED": "1"}}, {"preexec_fn": int}, {"executable": OPERATORD}], ids=list
)  # fmt: skip
def test_what_is_started_otherwise_is_started_anew(more: dict[str, Any]) -> None:
    with subprocess.Popen([OPERATORD, "simulate"], stdout=subprocess.PIPE, **more) as process:
        assert "preloaded.py" not in command_line(process.pid)
        process.kill()
