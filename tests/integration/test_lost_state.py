# SPDX-License-Identifier: MIT
"""The state directory is deleted, moved or replaced under a running daemon: put back, or told to all."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_lab import Json, Served, Wire, receive, served, until

from operatord.identity import read_identity
from operatord.state_dir import StateDir, StateDirBusy, StateDirLost

PROCESS = ("--engine", "process")
PROBE: Json = {"name": "scope", "host": "127.0.0.1", "port": 9}


def all_of_it(state_dir: Path) -> None:
    shutil.rmtree(state_dir)


def what_is_in_it(state_dir: Path) -> None:
    all_of_it(state_dir)
    state_dir.mkdir(mode=0o700)


def the_journal(state_dir: Path) -> None:
    (state_dir / "journal.sqlite").unlink()


def the_lock(state_dir: Path) -> None:
    (state_dir / "lock").unlink()


async def all_is_written(wire: Wire) -> None:
    """Return once a commit is over after which there is nothing to write."""
    await wire.call("probe.register", **{**PROBE, "name": "gone"})
    await wire.call("probe.remove", name="gone")


async def known(wire: Wire) -> tuple[set[str], set[str]]:
    """Return the names of the probes, and the ids of the sessions, that a daemon knows."""
    probes = (await wire.call("probe.list"))["probes"]
    sessions = (await wire.call("session.list", phase="ended"))["sessions"]
    return {each["name"] for each in probes}, {each["session_id"] for each in sessions}


@pytest.mark.parametrize("delete", [all_of_it, what_is_in_it, the_journal, the_lock])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
async def test_next_daemon_knows_everything_though_it_was_deleted_under_this_one(
    tmp_path: Path, delete: Callable[[Path], None], number: signal.Signals
) -> None:
    """A14: what was written before as well as what was said to be done since."""
    state_dir = tmp_path / "s"
    async with served(state_dir, *PROCESS) as daemon:
        wire = await daemon.wire()
        instance = daemon.instance
        before = await wire.call("session.start", count=1)
        await receive(before["location"])
        await wire.call("session.wait", session_id=before["session_id"])
        await all_is_written(wire)
        delete(state_dir)
        since = await wire.call("session.start", count=1)
        await receive(since["location"])
        await wire.call("session.wait", session_id=since["session_id"])
        await wire.call("probe.register", **PROBE)
        assert await daemon.logged("is there again") is not None
        expected = await known(wire)
        assert expected == ({"scope"}, {before["session_id"], since["session_id"]})
        assert (await wire.call("system.status"))["troubles"] == []
        assert state_dir.stat().st_mode & 0o777 == 0o700
        await wire.close()
        await daemon.stop(number)
        assert not [entry for entry in daemon.log if "Traceback" in str(entry)]
    async with served(state_dir, *PROCESS) as again:
        wire = await again.wire()
        assert (again.instance, await known(wire)) == (instance, expected)
        await wire.close()


async def refused(wire: Wire, saying: str) -> None:
    """See that nothing new is begun, and that everybody is told why."""
    for method, params in (
        ("session.start", {"on_shortage": "refuse"}),
        ("probe.register", PROBE),
    ):
        told = await wire.refusal(method, **params)
        assert (told.type, told.data["dimension"]) == ("no_capacity", "disk")
        assert saying in told.message
    assert (await wire.call("probe.list"))["probes"] == []
    assert saying in (await wire.call("system.status"))["queue"]["reason"]


async def noticed(daemon: Served, wire: Wire) -> None:
    """Return once the daemon has met that what it writes would be lost."""
    await wire.refusal("probe.register", **PROBE)
    assert await daemon.logged("nothing new is started") is not None


async def accepted(wire: Wire) -> None:
    """Return once things can be begun again."""

    async def works() -> bool:
        return "reason" not in (await wire.call("system.status"))["queue"]

    await until(works, "there is no trouble any more")
    await wire.call("probe.register", **PROBE)


async def test_directory_that_was_moved_away_is_waited_for(tmp_path: Path) -> None:
    """A14: a second one would be the same instance twice."""
    state_dir, elsewhere = tmp_path / "s", tmp_path / "elsewhere"
    async with served(state_dir, *PROCESS) as daemon:
        wire = await daemon.wire()
        state_dir.rename(elsewhere)
        await noticed(daemon, wire)
        await refused(wire, "has been moved away; move it back")
        assert not state_dir.exists()
        elsewhere.rename(state_dir)
        await accepted(wire)
        assert (await wire.call("system.status"))["troubles"] == []
        await wire.close()


async def test_journal_that_was_replaced_is_waited_for(tmp_path: Path) -> None:
    """A14: what somebody has put there is not overwritten."""
    state_dir, backup = tmp_path / "s", tmp_path / "backup"
    async with served(state_dir, *PROCESS) as daemon:
        wire = await daemon.wire()
        journal = state_dir / "journal.sqlite"
        shutil.copy(journal, backup)
        backup.replace(journal)
        await noticed(daemon, wire)
        await refused(wire, "another file has taken the place of the journal")
        journal.unlink()
        await accepted(wire)
        await wire.close()


# The directory by itself


def test_deleted_directory_is_the_same_again(tmp_path: Path) -> None:
    """A14: its name and holder, and nobody else can have it."""
    path = tmp_path / "s"
    state = StateDir(path)
    before = read_identity(path)
    assert before is not None
    shutil.rmtree(path)
    state.secure()
    state.secure()
    found = read_identity(path)
    assert found is not None
    assert (found.holder, found.instance) == (before.holder, state.instance)
    with pytest.raises(StateDirBusy):
        StateDir(path)
    state.close()
    again = StateDir(path)
    assert (again.instance, again.holder) == (state.instance, before.holder)
    again.close()


def test_directory_that_another_daemon_has_is_left_to_it(tmp_path: Path) -> None:
    """A14: while that one is there, and also when it has gone and left its name."""
    path = tmp_path / "s"
    state = StateDir(path)
    shutil.rmtree(path)
    other = StateDir(path)
    assert other.instance != state.instance
    with pytest.raises(StateDirLost, match="another operatord has taken the state directory"):
        state.secure()
    other.close()
    with pytest.raises(StateDirLost, match="another operatord"):
        state.secure()
    assert (path / "instance").read_text().strip() == other.instance
    shutil.rmtree(path)
    state.secure()
    assert (path / "instance").read_text().strip() == state.instance
    state.close()


def test_directory_that_cannot_be_made_is_a_sentence_without_a_path(tmp_path: Path) -> None:
    """A14: clients are told of it."""
    path = tmp_path / "s"
    state = StateDir(path)
    shutil.rmtree(path)
    path.write_text("a file")
    with pytest.raises(StateDirLost, match="cannot be made again; make it") as lost:
        state.secure()
    assert str(path) not in str(lost.value)
    path.unlink()
    state.secure()
    state.close()
