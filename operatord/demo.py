# SPDX-License-Identifier: MIT
"""`operatord demo`: shows the main job once.

It plays both sides: a private daemon in a process of its own, and a requester that knows nothing but the
daemon's address and uses the public client. It is the only module that imports both packages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from operatord_client import Client, ClientError, WireError
from operatord_client.session import RunningSession

from .core.engine_kinds import KINDS, is_local
from .engines.base import Engine, EngineError
from .engines.docker_host.endpoint import Endpoint
from .images import ImageError, build_images
from .recipes import EMULATORS
from .settings.choice import DEFAULT, choose_engine, engine_endpoint
from .settings.config import Config
from .settings.loading import from_dict

FPS = 60
DICE_WANTED = 0.9
READY_SECONDS = 30.0
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
_LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


class _Failed(Exception):
    """The demo cannot go on; the text says why."""


class _Chosen(NamedTuple):
    engine: str
    why: str


class _Received(NamedTuple):
    frames: int
    seconds: float
    dice: list[float]


def run_demo(engine: str, count: int) -> int:
    """Run it with ``count`` frames on ``engine`` (auto, docker or process); return an exit code."""
    if count < 1:
        _line("count", "ask for at least one frame")
        return 2
    _end_in_order()
    try:
        with tempfile.TemporaryDirectory(prefix="operatord-demo-") as folder:
            return _run(engine, count, Path(folder))
    except (_Failed, ClientError, WireError) as exc:
        _line("failed", str(exc))
        return 1


def _end_in_order() -> None:
    """Make a closed terminal and SIGTERM end the demo as Ctrl-C does: with its daemon, and nothing left."""
    signals = [each for each in _ENDINGS if signal.getsignal(each) is not signal.SIG_IGN]

    def end(number: int, _: object) -> NoReturn:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # further signals must not disturb the cleaning up
        raise SystemExit(128 + number)

    for each in signals:
        signal.signal(each, end)


def _run(wanted: str, count: int, folder: Path) -> int:
    chosen = _choose(wanted, folder)
    _line("engine", f"{chosen.engine}: {chosen.why}")
    with _daemon(chosen.engine, folder) as address, Client(address) as client:
        _line("daemon", f"listening on {address}")
        _await_engine(client)
        session = _start(client, count)
        received = _receive(session, count)
        ended = session.wait(timeout=READY_SECONDS)
        _show_timings(session)
        _line("ended", f"{ended.outcome}: {ended.reason}")
        left = asyncio.run(_left_over(chosen.engine, folder))
    mean = sum(received.dice) / len(received.dice) if received.dice else 0.0
    rate = received.frames / received.seconds
    _line("received", f"{received.frames} of {count} frames, {rate:.0f} a second")
    _line("dice", f"{mean:.3f} on average against the known truth (1 is perfect)")
    _line("left", left or "nothing: the engine lists 0 stages and 0 networks of this daemon")
    good = received.frames == count and mean >= DICE_WANTED and not left
    _line("result", "it works" if good else "NOT as it should be")
    return 0 if good else 1


# The engine


def _choose(wanted: str, folder: Path) -> _Chosen:
    """Return the engine to use and why: containers where they can be had, else local processes."""
    if is_local(wanted):
        return _Chosen("process", "it was asked for")
    try:
        return _Chosen("docker", asyncio.run(_try_docker(folder)))
    except _Failed as exc:
        if KINDS[wanted].is_named:
            raise
        return _Chosen("process", f"local processes, because {exc}")


async def _try_docker(folder: Path) -> str:
    engine = _engine("docker", folder, "demo")
    try:
        info = await engine.connect()
        there = await engine.image_ids(list(EMULATORS))
        if missing := [image for image in EMULATORS if image not in there]:
            _line("images", f"building {', '.join(missing)}")
            await asyncio.to_thread(_build)
    except EngineError as exc:
        raise _Failed(f"no container engine answers at {_endpoint().url}: {exc}") from exc
    except ImageError as exc:
        raise _Failed(f"the emulator images cannot be built ({exc})") from exc
    finally:
        await engine.close()
    return f"version {info.version} answers and the emulator images are there"


def _build() -> None:
    from .engines.docker.images import image_client  # noqa: PLC0415

    with image_client(_endpoint()) as client:
        build_images(client, None, lambda text: _line("images", text), EMULATORS)


def _endpoint() -> Endpoint:
    return engine_endpoint(from_dict({"engine": "docker"}), os.environ) or DEFAULT


def _engine(kind: str, folder: Path, instance: str) -> Engine:
    config: Config = from_dict({"engine": kind})
    return choose_engine(config, instance, folder, os.environ).engine


async def _left_over(kind: str, folder: Path) -> str:
    """Ask the engine itself, not the daemon, which of this daemon's objects are left; "" for none."""
    instance = (folder / "instance").read_text("ascii").strip()
    engine = _engine(kind, folder, instance)
    try:
        await engine.connect()
        found = await engine.list_objects(instance)
    finally:
        await engine.close()
    return ", ".join(f"{thing.kind} {thing.name}" for thing in found)


# The daemon


@contextlib.contextmanager
def _daemon(engine: str, folder: Path) -> Iterator[str]:
    """Run a daemon of our own and yield its address."""
    command = [sys.executable, "-m", "operatord", "serve", "--listen", "127.0.0.1:0"]
    command += ["--engine", engine, "--state-dir", str(folder)]
    env = {key: value for key, value in os.environ.items() if not key.startswith("OPERATORD_")}
    env["OPERATORD_ON_SHUTDOWN"] = "stop"
    log = folder / "log"
    with log.open("wb") as sink:
        # In a session of its own: a terminal's Ctrl-C is for us, and we stop the daemon in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=sink, env=env, start_new_session=True
        )
    try:
        with log.open("r") as lines:
            yield _await_address(process, lines)
    finally:
        process.terminate()
        process.wait()


def _await_address(process: subprocess.Popen[bytes], lines: IO[str]) -> str:
    deadline = time.monotonic() + READY_SECONDS
    seen = ""
    while time.monotonic() < deadline and process.poll() is None:
        seen += lines.read()
        if match := _LISTENING.search(seen):
            return match[1]
        time.sleep(0.02)
    raise _Failed(f"the daemon did not come up:\n{seen + lines.read()}")


def _await_engine(client: Client) -> None:
    """Return once the daemon's engine answers; a remote one takes a while."""
    deadline = time.monotonic() + READY_SECONDS
    while (engine := client.status().engine)["state"] != "up" and time.monotonic() < deadline:
        if is_local(engine["name"]):
            return
        time.sleep(0.05)


# The requester


def _start(client: Client, count: int) -> RunningSession:
    request: dict[str, Any] = {"count": count, "env": {"probe": {"fps": FPS}}}
    _line("request", f"session.start {request}")
    with _Bar("start", 6) as bar:
        step = 0

        def progress(news: Any) -> None:
            nonlocal step
            step = min(step + 1, 6)
            bar.show(step, str(news.stage))

        session = client.start(on_progress=progress, **request)
    _line("session", f"{session.id} on {session.info.network}")
    assert session.location is not None
    _line("location", str(session.location.url))
    return session


def _receive(session: RunningSession, count: int) -> _Received:
    begun = time.monotonic()
    frames, dice = 0, []
    with _Bar("frames", count) as bar:
        for frame in session.frames():
            frames += 1
            mask = frame.part("mask")
            if mask is not None and mask.dice is not None:
                dice.append(mask.dice)
            bar.show(frames, f"{frames}/{count}")
    return _Received(frames, time.monotonic() - begun, dice)


def _show_timings(session: RunningSession) -> None:
    timings = session.info.timings
    if isinstance(timings, dict):
        for name, milliseconds in timings.items():
            _line("" if name != "probe" else "start", f"{name:<20}{milliseconds:>9.1f} ms")


# Words and bars


def _line(label: str, text: str) -> None:
    print(f"{label:>10}  {text}", flush=True)  # noqa: T201


class _Bar:
    """A bar that is redrawn on a terminal, and drawn once, when it is done, elsewhere."""

    WIDTH = 32

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, total
        self._live = sys.stdout.isatty()
        self._text = ""
        self._drawn = 0.0

    def __enter__(self) -> _Bar:
        return self

    def show(self, done: int, note: str) -> None:
        """Draw ``done`` of the total, at most thirty times a second."""
        full = self.WIDTH * done // self._total
        self._text = f"[{'█' * full}{'·' * (self.WIDTH - full)}] {note}"
        now = time.monotonic()
        if self._live and (now - self._drawn > 1 / 30 or done == self._total):
            self._drawn = now
            print(f"\r\x1b[K{self._label:>10}  {self._text}", end="", flush=True)  # noqa: T201

    def __exit__(self, *exc_info: object) -> None:
        if self._live:
            print()  # noqa: T201
        elif self._text:
            _line(self._label, self._text)
