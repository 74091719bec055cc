# SPDX-License-Identifier: MIT
"""What the tests of the daemon work with: a line client, a reader of frames, and daemons to talk to.

`Wire` and `receive` are written from the text of the protocol and use nothing of operatord's, so that
a mistake that daemon and client share does not stay hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from fake_engine import FakeEngine, Program, World

from operatord.core.scheduling.pressure import Sample
from operatord.daemon import Daemon, Parts
from operatord.engines.base import Address, Engine, Network
from operatord.machine.clock import Clock, Timer
from operatord.machine.host import HostMonitor
from operatord.settings.config import Config
from operatord.settings.loading import from_dict

OPERATORD = str(Path(sys.executable).with_name("operatord"))
IMAGES = ("demo-probe", "demo-stream", "demo-segmentation")
PATIENCE = 60.0
"""Seconds after which a test that waits gives up: far more than anything takes, on busy cores, too."""

Json = dict[str, Any]


class Refused(Exception):
    """The daemon answered with an error."""

    def __init__(self, error: Json) -> None:
        self.code: int = error["code"]
        self.type: str = error["data"]["type"]
        self.data: Json = error["data"]
        self.message: str = error["message"]
        super().__init__(error)


class Wire:
    """A connection to the control socket: lines out, lines in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.notes: list[Json] = []
        """Notifications that came while something else was waited for."""
        self._serial = 0

    @classmethod
    async def connect(cls, address: tuple[str, int] | Path) -> Wire:
        limit = 64 * 1024**2
        if isinstance(address, Path):
            return cls(*await asyncio.open_unix_connection(str(address), limit=limit))
        return cls(*await asyncio.open_connection(*address, limit=limit))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Leave without a goodbye: the daemon's system is told by a reset."""
        raw = self.writer.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def send(self, *lines: Json | str | bytes) -> None:
        for line in lines:
            raw = json.dumps(line) if isinstance(line, dict) else line
            self.writer.write((raw.encode() if isinstance(raw, str) else raw) + b"\n")

    def half_close(self) -> None:
        self.writer.write_eof()

    async def line(self, timeout: float = PATIENCE) -> Json:
        async with asyncio.timeout(timeout):
            raw = await self.reader.readline()
        assert raw.endswith(b"\n"), f"the connection ended after {raw!r}"
        return json.loads(raw)

    async def at_end(self, timeout: float = PATIENCE) -> bool:
        """Return whether the next thing to come is the end."""
        async with asyncio.timeout(timeout):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def ask(self, line: Json | str | bytes) -> Json:
        """Send a plain or seed line and return the line that comes back."""
        self.send(line)
        return await self.line()

    def begin(self, method: str, **params: Any) -> int:
        """Send a JSON-RPC request and return its id."""
        self._serial += 1
        request = {"jsonrpc": "2.0", "id": self._serial, "method": method, "params": params}
        self.send(request)
        return self._serial

    async def reply(self, request_id: int | str | None, timeout: float = PATIENCE) -> Any:
        """Return the result of a request; notifications that come first are kept."""
        while True:
            message = await self.line(timeout)
            if "method" in message:
                self.notes.append(message)
                continue
            assert message["jsonrpc"] == "2.0"
            assert message["id"] == request_id, f"{message} instead of a reply to {request_id}"
            if "error" in message:
                assert set(message) == {"jsonrpc", "id", "error"}
                raise Refused(message["error"])
            return message["result"]

    async def call(self, method: str, **params: Any) -> Any:
        return await self.reply(self.begin(method, **params))

    async def refusal(self, method: str, **params: Any) -> Refused:
        """Call what must be refused and return the error."""
        try:
            result = await self.call(method, **params)
        except Refused as refused:
            return refused
        raise AssertionError(f"{method} was granted: {result}")

    async def cancel(self, request_id: int) -> Refused:
        """Cancel a pending request and return the error that it is answered with."""
        cancel = self.begin("request.cancel", id=request_id)
        replies: dict[int, Json] = {}
        while len(replies) < 2:
            message = await self.line()
            if "method" not in message:
                replies[message["id"]] = message
        assert replies[cancel].get("result") == {"cancelled": True}
        return Refused(replies[request_id]["error"])

    async def note(
        self, wanted: Callable[[Json], bool] = lambda _: True, timeout: float = PATIENCE
    ) -> Json:
        """Return the params of the next notification that is ``wanted``."""
        while True:
            while self.notes:
                if wanted(params := self.notes.pop(0)["params"]):
                    return params
            message = await self.line(timeout)
            assert "method" in message, f"{message} instead of a notification"
            self.notes.append(message)

    async def event(self, type: str, session_id: str | None = None) -> Json:
        """Return the next event of a type; needs a subscription."""

        def wanted(event: Json) -> bool:
            return event.get("type") == type and session_id in (None, event.get("session_id"))

        return await self.note(wanted)


async def receive(location: Json) -> tuple[Json, list[tuple[Json, dict[str, bytes]]], Json]:
    """Read a stream to its end: hello, frames with their parts' bytes, end."""
    reader, writer = await asyncio.open_connection(location["host"], location["port"])
    try:
        hello = json.loads(await reader.readline())
        assert hello["type"] == "hello"
        frames: list[tuple[Json, dict[str, bytes]]] = []
        while (header := json.loads(await reader.readline()))["type"] != "end":
            assert header["type"] == "frame"
            parts = {p["name"]: await reader.readexactly(p["bytes"]) for p in header["parts"]}
            frames.append((header, parts))
        assert await reader.read() == b""
        return hello, frames, header
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class StreamingFake(FakeEngine):
    """The fake engine, with a real loopback socket at each location that says hello."""

    HELLO = b'{"type":"hello","stream":"fake","width":16,"height":16,"format":"gray8","fps":0}\n'

    def __init__(self, world: World | None = None) -> None:
        super().__init__("test", world or World({image: Program() for image in IMAGES}))
        self.mute = False
        """Listen, and never say hello."""
        self._servers: dict[str, asyncio.Server] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, container_id: str) -> None:
        await super().start(container_id)
        await self._listen(container_id)

    async def connect_stage(
        self, container_id: str, network: Network, aliases: Sequence[str]
    ) -> None:
        await super().connect_stage(container_id, network, aliases)
        await self._listen(container_id)

    async def _listen(self, container_id: str) -> None:
        container = self.world.containers[container_id]
        if container.published is not None and container.status == "running":
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self._servers[container_id] = server
            container.published = Address(*server.sockets[0].getsockname()[:2])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if not self.mute:
                writer.write(self.HELLO)
            await reader.read()
        writer.close()
        self._writers.discard(writer)

    async def remove(self, container_id: str) -> None:
        await super().remove(container_id)
        if container_id not in self.world.containers and container_id in self._servers:
            self._servers.pop(container_id).close()

    async def close(self) -> None:
        await super().close()
        for server in self._servers.values():
            server.close()
        for writer in tuple(self._writers):
            writer.close()

    def stages(self) -> dict[str, str]:
        """Return the container id of each stage that there is; for tests with one session."""
        return {c.plan.stage: c.id for c in self.world.containers.values()}

    @property
    def empty(self) -> bool:
        """Whether nothing is left on the engine."""
        return not self.world.containers and not self.world.networks


class Lab:
    """A daemon in this process, and connections to it."""

    def __init__(self, daemon: Daemon, address: tuple[str, int]) -> None:
        self.daemon, self.address = daemon, address
        self._wires: list[Wire] = []

    @property
    def fake(self) -> StreamingFake:
        assert isinstance(self.daemon.engine, StreamingFake)
        return self.daemon.engine

    async def wire(self) -> Wire:
        wire = await Wire.connect(self.address)
        self._wires.append(wire)
        return wire

    def measure(self, *, available: int, busy: float = 0.0, disk: int = 1 << 40) -> None:
        """Let the daemon see the machine: bytes of memory available, share of cores, bytes of disk."""
        self.daemon.supervisor.measure(Sample(busy, available, disk, 0.0), 1.0)

    async def close(self) -> None:
        await self.daemon.stop()
        for wire in self._wires:
            await wire.close()


SMALL = {
    "listen": "127.0.0.1:0",
    "on_shutdown": "stop",
    "start_timeout": PATIENCE,
    "stop_grace": 0.5,
    "shutdown_timeout": 10,
    "subnets": "198.18.0.0/16",  # for measurements (RFC 2544): nobody has routes there
}


def settings(state_dir: Path, *overlays: Mapping[str, Any]) -> Config:
    return from_dict(SMALL, [{"state_dir": str(state_dir)}, *overlays])


class StillClock(Clock):
    """A clock that goes on only when it is told to, by `advance`; its time of day may be set."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._epoch = 1_767_225_600.0
        self._serial = 0
        self._timers: list[tuple[float, int, StillTimer]] = []

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._epoch + self._now

    def boot(self) -> str:
        return "the first boot"

    def set_wall(self, seconds: float) -> None:
        """Set the time of day ``seconds`` on, or back."""
        self._epoch += seconds

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        if seconds <= 0:
            return asyncio.get_running_loop().call_soon(callback, *args)
        timer = StillTimer(callback, args)
        self._serial += 1
        heapq.heappush(self._timers, (self._now + seconds, self._serial, timer))
        return timer

    def timers_in(self, seconds: float) -> int:
        """Return how many things are to happen in exactly so many seconds from now."""
        return sum(at == self._now + seconds for at, *_ in self._timers)

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that was to happen meanwhile."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            self._now, _, timer = heapq.heappop(self._timers)
            timer.fire()
        self._now = end


class StillTimer:
    """Something that a `StillClock` calls when its time has come."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)


class StillHost(HostMonitor):
    """A machine that is looked at only when a test says what is seen, by `Lab.measure`."""

    async def run(self, on_sample: Callable[[Sample, float], None], interval: float = 1.0) -> None:
        await asyncio.Event().wait()


def subnets_held(lab: Lab) -> int:
    """Return how many subnets a daemon holds."""
    return lab.daemon.supervisor._starter._networks._subnets.held


@contextlib.asynccontextmanager
async def in_process(
    state_dir: Path,
    *overlays: Mapping[str, Any],
    engine: Engine | None = None,
    reread: Callable[[], Config] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Lab]:
    """Run a daemon in this event loop; on the streaming fake unless another engine is given.

    With a ``clock`` of its own the machine is not measured either.
    """
    state_dir.mkdir(exist_ok=True)
    (state_dir / "instance").write_text("test\n")
    config = settings(state_dir, *overlays)
    if engine is None and config.engine == "auto":
        engine = StreamingFake()
    host = StillHost(state_dir) if clock is not None else None
    daemon = Daemon(config, reread, Parts(engine, clock, host))
    lab = Lab(daemon, await daemon.start())
    try:
        yield lab
    finally:
        async with asyncio.timeout(PATIENCE):
            await lab.close()


class Served:
    """``operatord serve``, run as its users run it."""

    def __init__(self, process: asyncio.subprocess.Process, state_dir: Path) -> None:
        self.process, self.state_dir = process, state_dir
        self.log: list[Json] = []
        """What it logged, as it came."""
        self.address = ("", 0)
        self._grown = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        state_dir: Path,
        *arguments: str,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        wait_for: str = "listening on 127.",
        below: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> Served:
        """Start it, and return once it listens (or has logged another line), or has ended.

        ``below`` is a program that starts it, with its arguments; it inherits ``pass_fds``.
        """
        state_dir.mkdir(exist_ok=True, parents=True)
        file = state_dir.with_suffix(".yaml")
        file.write_text(json.dumps({"on_shutdown": "stop", **(config or {})}))
        process = await asyncio.create_subprocess_exec(
            *below, OPERATORD, "serve", "--config", str(file), "--listen", "127.0.0.1:0",
            "--state-dir", str(state_dir), "--log-format", "json", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**clean_env(), **(env or {})}, pass_fds=pass_fds,
        )  # fmt: skip
        served = cls(process, state_dir)
        entry = await served.logged(wait_for)
        if entry is not None and entry["message"].startswith("listening"):
            host, _, port = entry["message"].removeprefix("listening on ").rpartition(":")
            served.address = (host, int(port))
        return served

    @property
    def instance(self) -> str:
        return (self.state_dir / "instance").read_text().strip()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            try:
                entry = json.loads(raw)
            except ValueError:
                entry = {"message": raw.decode().rstrip("\n"), "level": "text"}
            self.log.append(entry)
            async with self._grown:
                self._grown.notify_all()
        self.log.append({})
        async with self._grown:
            self._grown.notify_all()

    async def logged(self, text: str) -> Json | None:
        """Return the first entry with ``text`` in it; None when the daemon ended without."""

        def found() -> Json | None:
            return next((e for e in self.log if not e or text in e["message"]), None)

        async with asyncio.timeout(PATIENCE), self._grown:
            entry = await self._grown.wait_for(lambda: found() is not None) and found()
        return entry or None

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.ended()

    async def wire(self) -> Wire:
        return await Wire.connect(self.address)


@contextlib.asynccontextmanager
async def served(state_dir: Path, *arguments: str, **more: Any) -> AsyncIterator[Served]:
    """Run ``operatord serve``; afterwards it must be gone, and everything that it started."""
    daemon = await Served.start(state_dir, *arguments, **more)
    try:
        yield daemon
    finally:
        if daemon.process.returncode is None:
            await daemon.stop()
        await daemon.ended()
        assert left_of(state_dir) == [], "the daemon left processes behind"


def clean_env() -> dict[str, str]:
    """Return this process's environment without settings of operatord's."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OPERATORD_")}


def left_of(state_dir: Path) -> list[str]:
    """Return the command lines of processes that work below ``state_dir``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(state_dir):
                found.append(" ".join(process.cmdline()))
    return found


def relays_to(port: int) -> list[int]:
    """Return the ids of the living processes that relay to a port of this machine."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if str(port) in words[-2:] and any(w.endswith("relay_process.py") for w in words):
                found.append(process.pid)
    return found


async def run(*command: str, stdin: bytes = b"", **more: Any) -> tuple[int, str, str]:
    """Run a program to its end: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **more,
    )
    async with asyncio.timeout(2 * PATIENCE):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def netcat(address: tuple[str, int] | Path, line: str, *options: str) -> str:
    """Return what ``printf line | nc -N address`` prints."""
    where = ("-U", str(address)) if isinstance(address, Path) else tuple(map(str, address))
    code, out, err = await run("nc", "-N", *options, *where, stdin=line.encode())
    assert (code, err) == (0, "")
    return out


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Return once ``condition`` holds: for facts of the operating system that send no event."""
    async with asyncio.timeout(PATIENCE):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(what)
