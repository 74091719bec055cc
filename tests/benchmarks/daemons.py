# SPDX-License-Identifier: MIT
"""Processes to measure, started for it and gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

PROGRAMS = Path(__file__).with_name("programs")
PATIENCE = 60.0
"""Seconds for any one step."""
REPLY = 180.0
"""Seconds for an answer of the daemon's: a start may stand behind many others."""
Found = TypeVar("Found")
LISTENING = re.compile(rb"listening on ([0-9.]+):([0-9]+)")


class BenchFailed(Exception):
    """Something that is to be measured did not work."""


@contextlib.contextmanager
def interruptions_later() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is done: nothing half begun, nothing half removed."""
    caught: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: caught.append(n)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        raise KeyboardInterrupt


@contextlib.contextmanager
def process(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a session of its own, and end it by its handle.

    In a session of its own it does not get the terminal's Ctrl-C: it is ended in order, by us.
    """
    child = None
    try:
        with log.open("wb") as sink, interruptions_later():
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        yield child
    finally:
        if child is not None:
            with interruptions_later():
                _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask it to end and wait; kill it when it does not."""
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory that goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="operatord-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def until(
    child: subprocess.Popen[bytes], log: Path, looked_for: Callable[[bytes], Found | None]
) -> Found:
    """Return what ``looked_for`` finds in what a process has said. Raises `BenchFailed`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := looked_for(log.read_bytes()):
            return found
        if child.poll() is not None:
            break
        time.sleep(0.01)
    raise BenchFailed(f"{child.args!r} does not begin: {log.read_text('utf-8', 'replace')}")


def await_address(child: subprocess.Popen[bytes], log: Path) -> tuple[str, int]:
    """Return the address that a process says it listens on. Raises `BenchFailed`."""
    found = until(child, log, LISTENING.search)
    return found[1].decode(), int(found[2])


@dataclass
class Daemon:
    """A running operatord."""

    address: tuple[str, int]
    instance: str
    pid: int
    log: Path = Path(os.devnull)
    """Where it writes what it has to say."""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return a result, over a connection of its own, as a requester would. Raises `BenchFailed`."""
        request = json.dumps({"method": method, "params": params}).encode() + b"\n"
        with socket.create_connection(self.address, REPLY) as sock, sock.makefile("rb") as file:
            sock.sendall(request)
            line = file.readline()
        if not line:
            raise BenchFailed(f"{method}: the connection was closed instead of an answer")
        reply = json.loads(line)
        if "error" in reply:
            raise BenchFailed(f"{method}: {reply['error']['message']}")
        result: dict[str, Any] = reply["result"]
        return result


def until_said(daemon: Daemon, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
    """Return what a daemon has said, or says yet. Raises `BenchFailed`."""
    deadline = time.monotonic() + PATIENCE
    while (found := pattern.search(daemon.log.read_bytes())) is None:
        if time.monotonic() > deadline:
            raise BenchFailed(f"the daemon does not say {pattern.pattern!r}")
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def operatord(engine: str, config: Mapping[str, Any] | None = None) -> Iterator[Daemon]:
    """Run a daemon of its own state and port; ``config`` is laid over its defaults."""
    with scratch() as folder, operatord_in(folder, engine, config) as daemon:
        yield daemon


@contextlib.contextmanager
def operatord_in(
    folder: Path, engine: str, config: Mapping[str, Any] | None = None
) -> Iterator[Daemon]:
    """Run one in a folder, where it goes on from what an earlier one has left there."""
    settings, log = folder / "operatord.yaml", folder / "log"
    overlay = {"on_shutdown": "stop", **(config or {})}
    settings.write_text(json.dumps(overlay), "utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "operatord", "serve", "--listen", "127.0.0.1:0"]
    command += ["--engine", engine, "--state-dir", str(folder), "--config", str(settings)]
    with process(*command, log=log) as child:
        address = await_address(child, log)
        instance = (folder / "instance").read_text("ascii").strip()
        yield Daemon(address, instance, child.pid, log)


@contextlib.contextmanager
def script(name: str) -> Iterator[tuple[str, int]]:
    """Run a server of the programs; yield the address it listens on."""
    with served(name) as (address, _):
        yield address


@contextlib.contextmanager
def served(name: str, *arguments: str) -> Iterator[tuple[tuple[str, int], int]]:
    """Run a server of the programs; yield the address it listens on, and its process id."""
    path = PROGRAMS / name
    with scratch() as folder:
        log = folder / "log"
        with process(sys.executable, str(path), *arguments, log=log) as child:
            yield await_address(child, log), child.pid


def log_in(sock: socket.socket, token: str) -> None:
    """Log in, and read the answer."""
    request: dict[str, Any] = {"method": "auth.login", "params": {"token": token}}
    sock.sendall(json.dumps(request).encode() + b"\n")
    if b"role" not in sock.recv(4096):
        raise ConnectionError("the login was refused")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, of threads that have ended as well."""
    # The kernel's number for the clock of a process (clock_getcpuclockid(3)): exact, where the ticks
    # in /proc are a hundredth of a second.
    return time.clock_gettime((~pid << 3) | 2)


def resident_kib(pid: int) -> float:
    """Return the memory of a process that is in RAM, pages shared with others included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def many_files() -> int:
    """Let this process and those it starts open as many files as they may; return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
