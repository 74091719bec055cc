# SPDX-License-Identifier: MIT
"""The state directory is deleted, moved or replaced under a running daemon: put back, or told to all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from daemon_lab import Json, Served, Wire, receive, served, until
from msgspec import structs

from operatord.machine.file_kind import no_file
from operatord.state.directory import StateDir, StateDirLost
from operatord.state.identity import StateDirUnusable, read_identity, write_identity
from operatord.state.lock import StateDirBusy

PROCESS = ("--engine", "process")
PROBE: Json = {"name": "scope", "host": "127.0.0.1", "port": 9}


def all_of_it(state_dir: Path) -> None:
    shutil.rmtree(state_dir)


def what_is_in_it(state_dir: Path) -> None:
    all_of_it(state_dir)
    state_dir.mkdir(mode=0o700)


def its_files(state_dir: Path) -> None:
    for each in state_dir.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


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


@pytest.mark.parametrize("delete", [all_of_it, what_is_in_it, its_files, the_journal, the_lock])
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


async def test_session_is_stopped_though_a_file_is_in_the_place_of_its_records(
    tmp_path: Path,
) -> None:
    """A14: of the process engine, which cannot start anything there, and says so."""
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start")
        records = tmp_path / "s" / "process"
        records.rename(tmp_path / "moved")
        a_file(records)
        ended = await wire.call("session.stop", session_id=session["session_id"])
        assert ended["outcome"] == "stopped"
        told = await wire.refusal("session.start")
        assert "is no longer a directory; move that away" in told.message
        records.unlink()
        after = await wire.call("session.start", count=1)
        await receive(after["location"])
        assert (await wire.call("system.status"))["troubles"] == []
        await wire.close()
        await daemon.stop()
        assert not [entry for entry in daemon.log if "Traceback" in str(entry)]


@pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal"])
async def test_directory_in_the_place_of_the_journal_is_waited_for(
    tmp_path: Path, name: str
) -> None:
    """A14: it is named."""
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        file = tmp_path / "s" / name
        file.unlink()
        file.mkdir()
        await noticed(daemon, wire)
        await refused(
            wire, "a directory has taken the place of the journal in the state directory;"
        )
        file.rmdir()
        await accepted(wire)
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


def test_emptied_directory_is_the_same_again(tmp_path: Path) -> None:
    """A14: whose sessions run on the engine is written in it."""
    path = tmp_path / "s"
    state = StateDir(path)
    for each in path.iterdir():
        each.unlink()
    state.secure()
    state.close()
    again = StateDir(path)
    assert (again.instance, again.holder) == (state.instance, state.holder)
    again.close()


def test_name_that_somebody_has_written_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    """A14"""
    path = tmp_path / "s"
    state = StateDir(path)
    (path / "lock").unlink()
    (path / "instance").write_text("another\n")
    (path / "identity").unlink()
    state.secure()
    assert (path / "instance").read_text() == "another\n"
    state.close()


def its_name(path: Path) -> None:
    (path / "instance").write_text("another\n")


def what_repeats_its_name(path: Path) -> None:
    found = read_identity(path)
    assert found is not None
    write_identity(path, structs.replace(found, instance="another"))


def a_directory_for_its_name(path: Path) -> None:
    (path / "instance").unlink()
    (path / "instance").mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (its_name, "^the file instance in .* is not that of this daemon any more; write {} into "),
        (
            what_repeats_its_name,
            "^the file identity in .* is that of another instance than {}; put",
        ),
        (
            a_directory_for_its_name,
            "^a directory has taken the place of the file instance in .*; m",
        ),
    ],
)
def test_file_that_is_another_instances_is_named_without_a_path(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    """A14: the directory is the right one, and is not said to be somebody else's."""
    path = tmp_path / "s"
    state = StateDir(path)
    before = {name: (path / name).read_bytes() for name in ("instance", "identity")}
    (path / "lock").unlink()
    change(path)
    for _ in range(2):
        with pytest.raises(StateDirLost, match=said.format(state.instance)) as lost:
            state.secure()
        assert str(path) not in str(lost.value)
    for name, data in before.items():
        remove(path / name)
        (path / name).write_bytes(data)
    state.secure()
    state.close()


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


def a_file(path: Path) -> None:
    path.write_text("a file")


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def somebody_elses(path: Path) -> None:
    path.mkdir(mode=0o755)
    (path / "thesis.tex").touch()
    path.chmod(0o755)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_file, "^a file stands in the place of the state directory; move it away$"),
        (a_link_to_nowhere, "^a link that leads nowhere .*; make what it leads to, or remove it$"),
        (a_pipe, "^a named pipe stands in the place of the state directory; move it away$"),
        (somebody_elses, "^a directory that serves for something else stands .*; move it away$"),
    ],
)
def test_what_stands_in_the_place_of_the_directory_is_named_without_a_path(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    """A14: clients are told of it."""
    path = tmp_path / "s"
    state = StateDir(path)
    shutil.rmtree(path)
    make(path)
    for _ in range(2):
        with pytest.raises(StateDirLost, match=said) as lost:
            state.secure()
        assert str(path) not in str(lost.value)
    remove(path)
    state.secure()
    assert (path / "instance").read_text().strip() == state.instance
    state.close()


def test_what_stands_in_the_path_of_the_directory_is_named(tmp_path: Path) -> None:
    """A14"""
    state = StateDir(tmp_path / "above" / "s")
    shutil.rmtree(tmp_path / "above")
    a_file(tmp_path / "above")
    with pytest.raises(StateDirLost, match="a file stands in the path of the state directory;"):
        state.secure()
    (tmp_path / "above").unlink()
    state.secure()
    state.close()


def test_directory_that_cannot_be_made_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A14"""
    state = StateDir(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    no = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "s"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", Mock(side_effect=no))
        with pytest.raises(StateDirLost, match=r"made again \(Permission denied\); make it, empty"):
            state.secure()
    state.secure()
    state.close()


# Its lock


@pytest.mark.parametrize(
    "replace", [lambda _: None, a_file, a_directory, a_link_to_nowhere, a_pipe]
)
def test_directory_without_its_lock_file_is_still_locked(
    tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    """A14: from the moment on at which the file is deleted or replaced, and afterwards."""
    path = tmp_path / "s"
    state = StateDir(path)
    (path / "lock").unlink()
    replace(path / "lock")
    with pytest.raises(StateDirUnusable):
        StateDir(path)
    if no_file(path / "lock"):
        with pytest.raises(StateDirLost, match=r"stands in the place of .* lock; move it away$"):
            state.secure()
        remove(path / "lock")
    with pytest.raises(StateDirBusy, match=f"process {os.getpid()}, "):
        StateDir(path)
    state.secure()
    assert holder_of(path / "lock") == "somebody"
    state.close()
    StateDir(path).close()


def holder_of(lock: Path) -> str:
    """Return who holds the lock that earlier versions look at."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "somebody"
    return "nobody"


def test_daemon_that_locks_the_file_only_is_noticed(tmp_path: Path) -> None:
    """A14: of an earlier version, at the start and when it took the place of a lock that was deleted."""
    path = tmp_path / "s"
    state = StateDir(path)
    (path / "lock").unlink()
    with (path / "lock").open("a") as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)
        with pytest.raises(StateDirLost, match=r"another operatord has taken .*; stop it$"):
            state.secure()
        state.close()
        with pytest.raises(StateDirBusy):
            StateDir(path)
    StateDir(path).close()


def test_lock_file_is_locked_where_a_directory_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A14: over NFS."""
    lock = fcntl.flock

    def as_over_nfs(file: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_over_nfs)
    with StateDir(tmp_path / "s"), pytest.raises(StateDirBusy):
        StateDir(tmp_path / "s")


def test_directory_that_is_moved_after_its_lock_was_deleted_is_not_made_twice(
    tmp_path: Path,
) -> None:
    """A14"""
    path = tmp_path / "s"
    state = StateDir(path)
    (path / "lock").unlink()
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(StateDirLost, match="has been moved away; move it back"):
        state.secure()
    (tmp_path / "elsewhere").rename(path)
    state.secure()
    state.close()


async def test_second_daemon_is_refused_though_the_lock_of_the_first_was_deleted(
    tmp_path: Path,
) -> None:
    """A14: at once, not from the first's next commit on."""
    async with served(tmp_path / "s", *PROCESS) as first:
        the_lock(tmp_path / "s")
        second = await Served.start(tmp_path / "s", *PROCESS)
        assert await second.ended() == 1
        assert f"(process {first.process.pid}, " in second.log[-2]["message"]
