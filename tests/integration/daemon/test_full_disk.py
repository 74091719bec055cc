# SPDX-License-Identifier: MIT
"""The disk of the state directory is full: what is not written is not said to be done, and all are told."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import (
    OPERATORD,
    Json,
    Refused,
    Served,
    Wire,
    clean_env,
    in_process,
    left_of,
    receive,
    run,
    served,
    until,
)

from operatord.engines.base import DiskFull, NetworkPlan
from operatord.engines.process.engine import ProcessEngine

FULL = "disk is full"
FAILED = 1
NO_RESERVE: Json = {"system_reserved": {"disk": 0}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for little more than a journal."""
    if os.geteuid() != 0:
        pytest.skip("only root can have a disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Take all the room that is left."""
    file = os.open(disk / "filling", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, bytes(512))
    os.close(file)


def make_room(disk: Path) -> None:
    (disk / "filling").unlink()


class Crowded:
    """A daemon on a disk that has no room left, and a session of before that."""

    def __init__(self, daemon: Served, session: Json, wire: Wire) -> None:
        self.daemon, self.session, self.wire = daemon, session, wire
        self.disk = daemon.state_dir

    async def no_room(self) -> None:
        """Return once the daemon has met that nothing can be written."""

        async def noticed() -> bool:
            fill(self.disk)
            with contextlib.suppress(Refused):
                await self.wire.call(
                    "session.extend", session_id=self.session["session_id"], ttl=90
                )
            return FULL in (await self.wire.call("system.status"))["queue"].get("reason", "")

        await until(noticed, "nothing can be written any more")

    async def for_want_of_disk(self, method: str, **params: Any) -> Refused:
        refused = await self.wire.refusal(method, **params)
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "disk")
        assert refused.data["retryable"] is True
        assert "make room" in refused.message
        assert str(self.disk) not in refused.message
        return refused


@pytest.fixture
async def crowded(small_disk: Path) -> AsyncIterator[Crowded]:
    async with served(small_disk, "--engine", "process", config=NO_RESERVE) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", lease={"ttl": 60})
        crowded = Crowded(daemon, session, wire)
        await crowded.no_room()
        yield crowded
        await wire.close()


async def test_each_start_is_told_that_the_disk_is_full(crowded: Crowded) -> None:
    """A14: the first and all later ones, however they ask; and they start when there is room."""
    for _ in range(2):
        await crowded.for_want_of_disk("session.start", on_shortage="refuse")
    waiting = await crowded.daemon.wire()
    start = waiting.begin("session.start", count=3)
    note = await waiting.note(lambda note: "reason" in note)
    assert FULL in note["reason"]
    accepted = await crowded.wire.call("session.start", wait="accepted")
    assert FULL in accepted["reason"]
    listed = (await crowded.wire.call("session.list", phase="queued"))["sessions"]
    assert [FULL in each["reason"] for each in listed] == [True, True]
    assert FULL in (await crowded.wire.call("session.plan"))["explanation"]["reason"]
    make_room(crowded.disk)
    session = await waiting.reply(start)
    assert len((await receive(session["location"]))[1]) == 3
    await waiting.close()


async def test_nothing_is_said_to_be_done_that_is_not_written(crowded: Crowded) -> None:
    """A14: a probe is not registered then, and a lease not extended for the next daemon."""
    probe = {"name": "scope", "host": "127.0.0.1", "port": 9}
    refused = await crowded.for_want_of_disk("probe.register", **probe)
    assert "'scope' is not registered" in refused.message
    assert (await crowded.wire.call("probe.list"))["probes"] == []
    session_id = crowded.session["session_id"]
    await crowded.for_want_of_disk("session.extend", session_id=session_id, ttl=99)
    assert (await crowded.wire.call("session.get", session_id=session_id))["phase"] == "running"
    make_room(crowded.disk)
    assert (await crowded.wire.call("probe.register", **probe))["name"] == "scope"
    await crowded.wire.call("session.extend", session_id=session_id, ttl=99)
    fill(crowded.disk)
    await crowded.no_room()
    refused = await crowded.for_want_of_disk("probe.remove", name="scope")
    assert "'scope' is still registered" in refused.message
    assert [each["name"] for each in (await crowded.wire.call("probe.list"))["probes"]] == ["scope"]


async def test_session_is_stopped_on_a_full_disk(crowded: Crowded) -> None:
    """A14: what gives room back needs none; and nothing of it is left."""
    stopped = await crowded.wire.call("session.stop", session_id=crowded.session["session_id"])
    assert stopped["outcome"] == "stopped"
    make_room(crowded.disk)
    assert left_of(crowded.disk) == []


async def test_probe_with_a_lease_of_its_connection_needs_no_disk(crowded: Crowded) -> None:
    """A14: it is not written down at any time."""
    probe = {"name": "scope", "host": "127.0.0.1", "port": 9, "lease": "connection"}
    assert (await crowded.wire.call("probe.register", **probe))["name"] == "scope"


async def test_process_engine_says_that_its_disk_is_full(small_disk: Path) -> None:
    """A14: in the words of engines, and leaves no half of a file."""
    engine = ProcessEngine(small_disk)
    fill(small_disk)
    with pytest.raises(DiskFull, match="no space left"):
        await engine.create_network(NetworkPlan("n", "192.0.2.0/28", {}))
    assert list((small_disk / "process").iterdir()) == []
    make_room(small_disk)
    network = await engine.create_network(NetworkPlan("n", "192.0.2.0/28", {}))
    await engine.remove_network(network.id)
    await engine.close()


async def test_start_that_meets_the_full_disk_in_its_engine_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A14: at any of its files; nothing is left of it, and the next start is good."""
    from operatord.engines.process import records as process_records

    write = Path.write_bytes
    written: list[str] = []
    full_after: int | None = None

    def sometimes_full(path: Path, data: bytes) -> int:
        if full_after is not None and path.suffix == ".new":
            written.append(path.name)
            if len(written) > full_after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    monkeypatch.setattr(process_records.Path, "write_bytes", sometimes_full)
    async with in_process(tmp_path / "s", {"engine": "process"}) as lab:
        wire = await lab.wire()
        for full_after in (0, 2, 5, 8, 9):
            written.clear()
            refused = await wire.refusal("session.start")
            assert (refused.type, refused.data["dimension"]) == ("no_capacity", "disk"), full_after
            assert lab.daemon.supervisor.registry.living() == []
        full_after = None
        session = await wire.call("session.start", count=2)
        full_after = 0
        written.clear()
        assert len((await receive(session["location"]))[1]) == 2
        ended = await wire.call("session.wait", session_id=session["session_id"])
        assert ended["outcome"] == "completed", "an end that cannot be written down is one"


async def test_daemon_that_finds_the_disk_full_at_its_start_says_so(small_disk: Path) -> None:
    """A14: nothing is the matter with the address where it would have listened."""
    fill(small_disk)
    state = str(small_disk / "state")
    command = [OPERATORD, "serve", "--engine", "process", "--listen", "127.0.0.1:0"]
    code, out, err = await run(*command, "--state-dir", state, env=clean_env())
    assert (code, out, len(err.splitlines())) == (FAILED, "", 1)
    assert f"the state directory {state} cannot be used: No space left on device" in err
    assert "make room" in err
    assert "127.0.0.1" not in err
