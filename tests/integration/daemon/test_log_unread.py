# SPDX-License-Identifier: MIT
"""Whoever is to read the daemon's log, and does not, holds up nobody but himself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import signal
import socket
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, PATIENCE, Wire, clean_env, until


class Unread:
    """Where a daemon's standard error leads, and whose reader can be made to stop."""

    reads: int
    writes: int

    def stop(self) -> None:
        """Let nothing more be written."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Let all that is written be read."""
        raise NotImplementedError

    def close(self) -> None:
        for fd in (self.reads, self.writes):
            os.close(fd)


class Pipe(Unread):
    """A pipe that is full, because nobody reads it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "log"
        os.mkfifo(path)
        self.reads = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.writes = os.open(path, os.O_WRONLY)
        self._fills = os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    def stop(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._fills, b"\n" * select.PIPE_BUF)

    def go_on(self) -> None:
        pass

    def close(self) -> None:
        os.close(self._fills)
        super().close()


class Terminal(Unread):
    """A terminal on which Ctrl-S is typed, and Ctrl-Q."""

    def __init__(self, _folder: Path) -> None:
        self.reads, self.writes = pty.openpty()
        os.set_blocking(self.reads, False)

    def stop(self) -> None:
        termios.tcflow(self.writes, termios.TCOOFF)

    def go_on(self) -> None:
        termios.tcflow(self.writes, termios.TCOON)


@pytest.fixture(params=[Pipe, Terminal])
def unread(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Unread]:
    unread: Unread = request.param(tmp_path)
    yield unread
    unread.close()


def answers(path: Path) -> bool:
    """Tell whether somebody listens there, who is there a moment later than the file."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@contextlib.asynccontextmanager
async def serving(unread: Unread, state_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        OPERATORD, "serve", "--engine", "process", "--listen", "127.0.0.1:0", "--unix", "s",
        "--state-dir", str(state_dir),
        stdin=asyncio.subprocess.DEVNULL, stderr=unread.writes, env=clean_env(), cwd=state_dir.parent,
    )  # fmt: skip
    try:
        await until(lambda: answers(state_dir.parent / "s"), "it listens")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def read_until(unread: Unread, text: str) -> str:
    """Read what is written until ``text`` has come."""
    found = ""

    def came() -> bool:
        nonlocal found
        with contextlib.suppress(BlockingIOError):
            found += os.read(unread.reads, 1 << 16).decode()
        return text in found

    await until(came, text)
    return found


async def test_log_that_nobody_reads_holds_up_nobody(unread: Unread, tmp_path: Path) -> None:
    """A18: neither requests nor signals, nor the end."""
    async with serving(unread, tmp_path / "state") as process:
        wire = await Wire.connect(tmp_path / "s")
        await read_until(unread, "listening on s")
        unread.stop()
        for _ in range(3):
            await wire.call("system.reload")  # which is logged
        await wire.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0


async def test_what_was_logged_meanwhile_is_there_for_who_reads_again(
    unread: Unread, tmp_path: Path
) -> None:
    """A18"""
    async with serving(unread, tmp_path / "state") as process:
        wire = await Wire.connect(tmp_path / "s")
        await read_until(unread, "listening on s")
        unread.stop()
        for _ in range(3):
            await wire.call("system.reload")
        assert (await wire.call("system.status"))["troubles"] == []
        await wire.close()
        unread.go_on()
        process.send_signal(signal.SIGTERM)
        log = await read_until(unread, "stopped")
        assert log.count("settings reread") == 3
        assert "SIGTERM: stopping" in log
