# SPDX-License-Identifier: MIT
"""The engine's disk fills up: a small one of its own, which really does."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import Json, Wire, until
from engine_common import slowfault
from engine_private import PrivateEngine, private_engine, served_inside

pytestmark = pytest.mark.engine

MIB = 2**20


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    with private_engine("256m") as made:
        yield made


class Filler:
    """A file of somebody else's on the engine's disk."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._file = engine.inside(engine.folder / "data") / "filler"

    def leave(self, count: int) -> None:
        """Leave so many bytes free."""
        with self._file.open("ab") as file:
            while (free := _free(self._file.parent)) > count:
                file.write(bytes(min(MIB, free - count)))
                file.flush()

    def make_room(self) -> None:
        self._file.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.fixture
async def filler(engine: PrivateEngine) -> AsyncIterator[Filler]:
    made, before = Filler(engine), set(engine.traces())
    yield made
    made.make_room()
    # An engine takes a shim away after it has answered.
    await until(lambda: before.issuperset(engine.traces()), "nothing is left on the host")


async def start(wire: Wire) -> Json:
    session: Json = await wire.call("session.start", plain_stream=True)
    return session


@slowfault
async def test_nearly_full_disk_holds_starts_back_and_nothing_else(
    engine: PrivateEngine, filler: Filler, tmp_path: Path
) -> None:
    config = {"system_reserved": {"disk": "48MiB"}}
    async with served_inside(engine, tmp_path / "s", config) as daemon:
        watcher = await daemon.watcher("pressure.changed")
        wire, waiter = await daemon.wire(), await daemon.wire()
        running = await start(wire)
        reader, writer = await engine.reach(running["location"])
        filler.leave(32 * MIB)
        assert (await watcher.event("pressure.changed"))["pressure"] == "disk"
        refused = await wire.refusal("session.start", plain_stream=True, on_shortage="refuse")
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "disk")
        assert "the engine's disk is nearly full" in refused.message
        assert str(engine.folder) not in str(refused)
        waiting = waiter.begin("session.start", plain_stream=True)
        said = await waiter.note(lambda said: "reason" in said)
        assert "disk" in said["reason"]
        assert json.loads(await reader.readline())["type"] == "hello"
        for _ in range(30):
            header = json.loads(await reader.readline())
            assert header["type"] == "frame"
            await reader.readexactly(sum(part["bytes"] for part in header["parts"]))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        filler.make_room()
        assert (await waiter.reply(waiting))["phase"] == "running"
        assert (await watcher.event("pressure.changed"))["pressure"] == "none"


async def test_start_that_finds_the_disk_full_says_so_and_leaves_nothing(
    engine: PrivateEngine, filler: Filler, tmp_path: Path
) -> None:
    config = {"system_reserved": {"disk": 0}, "stop_grace": 0.5}
    async with served_inside(engine, tmp_path / "s", config) as daemon:
        wire = await daemon.wire()
        running = await start(wire)
        # Enough to write a network down, but no container: Docker 20.10 leaves the bridge of one that it
        # could not write down, and nobody but it knows that bridge.
        filler.leave(64 * 1024)
        refused = await wire.refusal("session.start", plain_stream=True)
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "disk")
        assert "no space left" in refused.message
        assert str(engine.folder) not in str(refused)
        [failed, _] = (await wire.call("session.list"))["sessions"]
        assert (failed["outcome"], failed["cause"]) == ("failed", "disk")
        assert len(daemon.left()) == 3, "of the session that runs"
        assert (await wire.call("session.get", session_id=running["session_id"]))[
            "phase"
        ] == "running"
        ended = await wire.call("session.stop", session_id=running["session_id"])
        assert ended["outcome"] == "stopped"
        assert daemon.left() == []
        filler.make_room()
        await start(wire)
