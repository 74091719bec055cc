# SPDX-License-Identifier: MIT
"""Start the emulators as processes, and read their streams: helpers for the tests beside it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import pytest
import shared_host

EMULATORS = Path(__file__).resolve().parents[2] / "emulators"
HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for anything that is waited for
OWN = {"probe": "probe", "streaming": "stream", "segmentation": "segmentation"}
UPSTREAM = {"streaming": "probe", "segmentation": "stream"}
CHECK = b'{"type":"check"}\n'
CONSUME = b'{"type":"consume"}\n'
ATTACH = b'{"type":"attach"}\n'
# Runs a script with other constants than its own and its modules': JSON, as its last argument but one.
ALTERED = """
import importlib, json, pathlib, sys
path = pathlib.Path(sys.argv.pop())
sys.path.insert(0, str(path.parent))
stage = importlib.import_module(path.stem)
modules = [stage, *(module for name, module in sys.modules.items() if name.startswith("operatord_stage."))]
for name, value in json.loads(sys.argv.pop()).items():
    owners = [module for module in modules if hasattr(module, name)]
    assert owners, f"{name} is no constant of {path.stem}"
    for module in owners:
        setattr(module, name, value)
sys.exit(stage.run("stage", "", stage.serve, lambda: None))
"""
Constants = Mapping[str, float]
UNALTERED: Constants = {}
PATIENT: Constants = {"GUEST_TIME": 3600.0}
"""Who says nothing stays a guest for good."""
BRISK: Constants = {"REPORT_EVERY": 0.1}
"""For tests that wait for reports, and not for how often they come."""
HASTY: Constants = {"LINGER": 0.5, "LINGER_BEHIND": 0.5}
"""Who has everything, or takes nothing, at the end is not waited for much longer."""


def load(script: str) -> SimpleNamespace:
    """Import a script, and anew what it imports of its folder; return these modules by their names."""
    folder = EMULATORS / script
    files = [file.relative_to(folder) for file in folder.glob("**/*.py")]
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module(script)
        modules = {name.rpartition(".")[2]: importlib.import_module(name) for name in names}
        return SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


def require_tool(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


class Ended(NamedTuple):
    """What a stage left behind."""

    code: int
    report: dict[str, Any]  # the last one; empty if there was none
    sentence: str


class Stage:
    """A running stage."""

    def __init__(self, script: str, env: dict[str, str], constants: Constants) -> None:
        """Run a script, with ``constants`` of its own changed."""
        clean = {name: value for name, value in os.environ.items() if not name.endswith("_ip")}
        path = str(EMULATORS / script / f"{script}.py")
        altered = ["-IS", "-c", ALTERED, json.dumps(constants)]
        self.process = subprocess.Popen(
            [sys.executable, *(altered if constants else ["-EsS"]), path],
            env={**clean, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The port it says it listens on; waits for it to say so."""
        if self._port is None:
            line = self.output_line()
            assert line["type"] == "listening", line
            self._port = line["port"]
        return self._port

    def output_line(self) -> dict[str, Any]:
        """Wait for the next line on standard output."""
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def reports_until(self, **wanted: object) -> dict[str, Any]:
        """Wait for a report with these members."""
        while (line := self.output_line()).items() & wanted.items() != wanted.items():
            pass
        return line

    def bind(self, line: bytes) -> None:
        """Write the line that a process says it waits for, or the end of input."""
        assert self.output_line() == {"type": "waiting"}
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.close()
        self.process.stdin = None

    def take_signals(self) -> None:
        """Wait until the interpreter has started and SIGTERM is what the script makes of it."""
        blocked, bit = 0, 1 << (signal.SIGTERM - 1)
        while not blocked & bit:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            blocked = int(re.findall(r"SigBlk:\s*(\w+)", status)[0], 16)

    def ended(self) -> Ended:
        """Wait for it to end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        lines = [json.loads(line) for line in out.splitlines()]
        reports = [line for line in lines if line["type"] == "report"]
        return Ended(self.process.returncode, reports[-1] if reports else {}, err.decode())

    def terminate(self) -> tuple[Ended, float]:
        """Send SIGTERM; return what it left behind and the seconds it took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)  # before ended() closes its standard input
        seconds = time.monotonic() - begin
        return self.ended(), seconds


class Launcher:
    """Starts stages on ports of their own and wires them together."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []

    def __call__(
        self,
        script: str,
        upstream: int | None = None,
        *,
        constants: Constants = UNALTERED,
        **env: object,
    ) -> Stage:
        own = OWN[script]
        wiring = {f"{own}_ip": HOST, f"{own}_port": "0", "fps": "0"}
        if upstream is not None:
            wiring |= {f"{UPSTREAM[script]}_ip": HOST, f"{UPSTREAM[script]}_port": str(upstream)}
        settings = wiring | {name: str(value) for name, value in env.items()}
        stage = Stage(script, settings, constants)
        self._stages.append(stage)
        return stage

    def chain(
        self, count: int, /, *, constants: Constants = UNALTERED, **env: object
    ) -> tuple[Stage, Stage]:
        """Start a probe and a streaming server, the latter with ``constants`` changed."""
        size = {name: env.pop(name) for name in ("width", "height", "fps") if name in env}
        probe = self("probe", count=count, **size)
        return probe, self("streaming", probe.port, constants=constants, **env)

    def close(self) -> None:
        for stage in self._stages:
            stage.process.kill()
            stage.process.communicate()


class Received(NamedTuple):
    """One frame as a consumer gets it."""

    header: dict[str, Any]
    parts: tuple[bytes, ...]


class Consumer:
    """A connection to a stage that reads the stream format."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self.sock = socket.create_connection((host, port), PATIENCE)
        self._file = self.sock.makefile("rb")
        self.end: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def line(self) -> bytes:
        return self._file.readline()

    def hello(self) -> dict[str, Any]:
        hello: dict[str, Any] = json.loads(self.line())
        assert hello["type"] == "hello"
        return hello

    def frame(self) -> Received | None:
        """Return the next frame; None at the end or where the stream breaks off."""
        line = self.line()
        if not line:
            return None
        header = json.loads(line)
        if header["type"] == "end":
            self.end = header
            assert self.line() == b""
            return None
        assert header["type"] == "frame"
        return Received(header, tuple(self._file.read(part["bytes"]) for part in header["parts"]))

    def frames(self) -> Iterator[Received]:
        return iter(self.frame, None)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def rest(self) -> bytes:
        return self._file.read()


def receive(port: int) -> tuple[dict[str, Any], list[Received], dict[str, Any] | None]:
    """Read a stream from its hello to its end."""
    with Consumer(port) as consumer:
        return consumer.hello(), list(consumer.frames()), consumer.end


def sequence(frames: list[Received]) -> list[int]:
    return [frame.header["seq"] for frame in frames]


def check(port: int) -> bytes:
    """Check a stage as the daemon does; return the line that it answers with."""
    return glance(port, CHECK)


def glance(port: int, said: bytes = b"") -> bytes:
    """Check a stage naively: connect, read a line and not a byte more, close, without a word."""
    line = b""
    with socket.create_connection((HOST, port), PATIENCE) as sock:
        sock.sendall(said)
        while not line.endswith(b"\n"):
            line += sock.recv(1)
    return line


PICTURE = bytes(range(256))


def hello(**changed: object) -> bytes:
    """Return a foreign upstream's hello, for pictures of 16 x 16."""
    size = {"width": 16, "height": 16, "format": "gray8", "fps": 30}
    return json.dumps({"type": "hello", "stream": "foreign", **size, **changed}).encode() + b"\n"


def frame(seq: int, **changed: object) -> bytes:
    """Return the header of a foreign upstream's frame."""
    parts = [{"name": "image", "bytes": 256}]
    header = {"type": "frame", "seq": seq, "pts": seq / 30, "parts": parts, **changed}
    return json.dumps(header).encode() + b"\n"


def play(pool: ThreadPoolExecutor, *pieces: bytes) -> tuple[int, Future[None]]:
    """Be an upstream that sends these pieces to one connection and closes; return its port."""
    server = socket.create_server((HOST, 0))

    def serve() -> None:
        with server, server.accept()[0] as sock:
            sock.settimeout(PATIENCE)
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while sock.recv(4096):  # what is left unread would reset the connection
                    pass

    server.settimeout(PATIENCE)
    return server.getsockname()[1], pool.submit(serve)


def unused_port() -> int:
    """Return a port on which nobody listens.

    None of those that the kernel hands out: it might give it to another test, or to whoever tries to connect
    to it again and again, who is then connected to itself.
    """
    return shared_host.free_port()
