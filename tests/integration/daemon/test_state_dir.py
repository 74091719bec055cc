# SPDX-License-Identifier: MIT
"""The state directory: who may look into it, who may use it, and what a copy of it may do."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from daemon_lab import (
    OPERATORD,
    Lab,
    StreamingFake,
    clean_env,
    in_process,
    left_of,
    receive,
    run,
    served,
    settings,
    until,
)
from fake_engine import FakeEngine, World

from operatord.daemon import Daemon, Parts
from operatord.engines.base import NotOurs
from operatord.state import identity as identity_module
from operatord.state.directory import StateDir
from operatord.state.identity import StateDirUnusable, read_identity, write_identity
from operatord.state.lock import StateDirBusy
from operatord.state.sweep import CannotSweep, Options, sweep_once
from operatord.state.upkeep import backup, describe
from operatord.store.journal_file import open_sound

PROCESS = ("--engine", "process")


async def operatord(*arguments: str, state_dir: Path) -> tuple[int, str, str]:
    return await run(OPERATORD, *arguments, "--state-dir", str(state_dir), env=clean_env())


async def refused(state_dir: Path) -> str:
    """Serve where that is not to be; return the one sentence that it says."""
    code, out, err = await operatord(
        "serve", "--listen", "127.0.0.1:0", *PROCESS, state_dir=state_dir
    )
    assert (code, out) == (1, "")
    return err.splitlines()[-1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Who may look into it


async def test_what_was_open_to_others_is_closed_at_the_start(tmp_path: Path) -> None:
    """A9: the directory and what is in it, with a line in the log for each."""
    state = tmp_path / "s"
    async with served(state, *PROCESS):
        pass
    state.chmod(0o755)
    for each in state.iterdir():
        each.chmod(0o755 if each.is_dir() else 0o666)
    async with served(state, *PROCESS) as daemon:
        entry = await daemon.logged("was open to other users")
        assert entry is not None
        assert entry["level"] == "warning"
        assert mode(state) == 0o700
        assert {
            each.name: mode(each) & 0o077 for each in state.iterdir() if mode(each) & 0o077
        } == {}


@pytest.mark.parametrize("below", ["", "below"])
async def test_state_directory_that_is_a_file_is_told_as_one(tmp_path: Path, below: str) -> None:
    (tmp_path / "s").touch()
    assert f"{tmp_path / 's' / below} is not a directory" in await refused(tmp_path / "s" / below)


async def test_link_that_leads_nowhere_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "s").symlink_to("nowhere")
    said = await refused(tmp_path / "s")
    assert "is not a directory, because it is a link that leads nowhere" in said
    assert "make what it leads to, or remove it" in said


@pytest.mark.parametrize("name", ["lock", "instance", "identity", "journal.sqlite"])
async def test_directory_in_the_place_of_a_file_is_told_as_one(tmp_path: Path, name: str) -> None:
    """F8: by whoever reads it, and nothing is changed."""
    state = tmp_path / "s"
    StateDir(state).close()
    (state / name).unlink(missing_ok=True)
    (state / name).mkdir(mode=0o700)
    (state / name / "something").touch()
    assert f"{state / name} is a directory, and must be a file: move it away" in await refused(
        state
    )
    if name == "journal.sqlite":
        for command in (("sweep", *PROCESS), ("backup", "file"), ("export-trace", "file")):
            code, _, err = await operatord(*command, state_dir=state)
            assert (code, err.count("Traceback")) == (1, 0)
            assert "move it away" in err
    assert (state / name / "something").exists()


async def test_file_in_the_place_of_a_directory_is_told_as_one(tmp_path: Path) -> None:
    """F8"""
    StateDir(tmp_path / "s").close()
    (tmp_path / "s" / "process").touch(0o600)
    said = await refused(tmp_path / "s")
    assert f"{tmp_path / 's' / 'process'} is a file, and must be a directory: move it away" in said


@pytest.mark.parametrize(("mode_before", "holds"), [(0o755, "thesis.tex"), (0o1777, None)])
async def test_directory_that_serves_others_is_refused_and_left_as_it_is(
    tmp_path: Path, mode_before: int, holds: str | None
) -> None:
    """A9: a home directory, ``/tmp`` or ``/`` would be closed to everybody else."""
    state = tmp_path / "s"
    state.mkdir()
    if holds:
        (state / holds).touch()
    state.chmod(mode_before)
    said = await refused(state)
    assert f"{state} is not a directory of operatord's alone" in said
    assert "choose a --state-dir that is empty or not there yet" in said
    assert mode(state) == mode_before
    assert [each.name for each in state.iterdir()] == ([holds] if holds else [])


@pytest.mark.parametrize(
    ("mode_before", "holds"), [(0o755, "lost+found"), (0o755, "journal.sqlite"), (0o700, "notes")]
)
def test_directory_of_ours_alone_is_taken(tmp_path: Path, mode_before: int, holds: str) -> None:
    """A9: a file system of its own, one into which a backup was put, one that was closed by hand."""
    state = tmp_path / "s"
    state.mkdir()
    (state / holds).touch(0o600)
    state.chmod(mode_before)
    StateDir(state).close()
    assert mode(state) == 0o700


async def test_new_files_are_nobody_elses_whatever_the_umask(tmp_path: Path) -> None:
    """A9: with the logs of the journal."""
    state = tmp_path / "s"
    state.mkdir(mode=0o700)
    before = os.umask(0)
    try:
        async with in_process(state) as lab:
            wire = await lab.wire()
            await wire.call("session.start")
            there = {each.name for each in state.iterdir()}
            assert {"journal.sqlite", "journal.sqlite-wal", "lock", "identity"} <= there
            (state / "instance").chmod(0o600)  # the test's own
            assert [each.name for each in state.iterdir() if mode(each) & 0o077] == []
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", [".", "lock", "journal.sqlite"])
async def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path, what: str) -> None:
    """A9: they could lock the daemon out, or tell it what to remove."""
    state = tmp_path / "s"
    StateDir(state).close()
    (state / "journal.sqlite").touch(0o600)
    os.chown(state / what, 65534, 65534)
    said = await refused(state)
    assert "belongs to another user (uid 65534" in said
    assert str(state / what) in said
    assert f"(chown -R {os.geteuid()} {state})" in said


def test_name_that_was_emptied_is_known_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A loss of power may leave a file empty: under another name, what runs would be nobody's."""
    with StateDir(tmp_path / "s") as before:
        name, holder = before.instance, before.holder
    (tmp_path / "s" / "instance").write_bytes(b"")
    with StateDir(tmp_path / "s") as again:
        assert (again.instance, again.holder) == (name, holder)
    assert f"is empty: the name {name} is taken from identity" in caplog.text
    assert (tmp_path / "s" / "instance").read_text() == f"{name}\n"


def test_name_that_nothing_tells_any_more_is_replaced_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateDir(tmp_path / "s") as before:
        name = before.instance
    assert "was empty" not in caplog.text
    for each in ("instance", "identity"):
        (tmp_path / "s" / each).write_bytes(b"")
    with StateDir(tmp_path / "s") as again:
        assert again.instance != name
        assert f"this is the instance {again.instance} from now on" in caplog.text


def test_name_that_was_removed_is_a_wish_for_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateDir(tmp_path / "s") as before:
        name = before.instance
    (tmp_path / "s" / "instance").unlink()
    with StateDir(tmp_path / "s") as again:
        assert again.instance != name
        assert f"this is no longer the instance {name}, but {again.instance}" in caplog.text
    (tmp_path / "s" / "instance").write_text(name)
    (tmp_path / "s" / "identity").unlink()
    with StateDir(tmp_path / "s") as as_before:
        assert as_before.instance == name


def a_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def a_directory(path: Path) -> None:
    path.mkdir(mode=0o700)


def a_link(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [a_fifo, a_directory, a_link])
async def test_lock_that_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A9: in a sentence, and at once."""
    state = tmp_path / "s"
    state.mkdir(mode=0o700)
    make(state / "lock")
    assert str(state / "lock") in await refused(state)


async def test_link_to_a_state_directory_is_the_same_directory(tmp_path: Path) -> None:
    """A9: whoever keeps it elsewhere may."""
    state, link = tmp_path / "s", tmp_path / "link"
    link.symlink_to(state)
    first = StateDir(state)
    with pytest.raises(StateDirBusy):
        StateDir(link)
    first.close()
    again = StateDir(link)
    assert (again.instance, again.holder) == (first.instance, first.holder)
    again.close()


async def test_whoever_holds_the_lock_is_named(tmp_path: Path) -> None:
    """A9: another program of this user's, too, which says nothing of itself."""
    state = tmp_path / "s"
    StateDir(state).close()
    with (state / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"(process {os.getpid()}, " in await refused(state)


# What a copy may do


def copy(state_dir: Path, name: str = "copy") -> Path:
    copied = state_dir.with_name(name)
    drafts = shutil.ignore_patterns("*.new")  # which are renamed while this goes on
    shutil.copytree(state_dir, copied, symlinks=True, ignore=drafts)
    return copied


async def test_copy_beside_a_running_original_is_refused(tmp_path: Path) -> None:
    """N7: its lock is another file, and its journal says that it has all sessions."""
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", count=20, env={"probe": {"fps": 0}})
        copied = copy(daemon.state_dir)
        said = await refused(copied)
        assert f"{copied} is a copy of {daemon.state_dir}" in said
        assert "operatord identity --new" in said
        code, _, err = await operatord("sweep", *PROCESS, "--grace", "0", state_dir=copied)
        assert code == 1
        assert "is a copy of" in err
        assert len((await receive(session["location"]))[1]) == 20
        await wire.close()


async def test_copy_becomes_an_instance_of_its_own(tmp_path: Path) -> None:
    """N7: it keeps the history, and has no sessions; the original's go on."""
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        done = await wire.call("session.start", count=3)
        await receive(done["location"])
        await wire.call("session.wait", session_id=done["session_id"])
        living = await wire.call("session.start", count=20)
        copied = copy(daemon.state_dir)
        code, out, _ = await operatord("identity", "--new", state_dir=copied)
        assert code == 0
        assert daemon.instance in out
        async with served(copied, *PROCESS) as other:
            assert other.instance != daemon.instance
            theirs = await other.wire()
            listed = (await theirs.call("session.list"))["sessions"]
            assert [each["session_id"] for each in listed] == [done["session_id"]]
            await theirs.close()
        assert left_of(daemon.state_dir) != []
        assert len((await receive(living["location"]))[1]) == 20
        await wire.close()


async def test_directory_that_was_renamed_is_the_same(tmp_path: Path) -> None:
    """N7: the original is moved, not copied."""
    first = StateDir(tmp_path / "s")
    first.close()
    (tmp_path / "s").rename(tmp_path / "t")
    again = StateDir(tmp_path / "t")
    again.close()
    assert (again.instance, again.holder) == (first.instance, first.holder)


GARBAGE = {
    "binary": b"\xff\xfe\0",
    "very long": b"a" * 1024**2,
    "several lines": b"0123456789ab\n0123456789ab\n",
    "a sentence": b"hello world",
    "an option": b"--force",
    "only zeros": bytes(12),
}
"""What is written over the name of an instance."""


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_damaged_name_of_the_instance_is_a_sentence(tmp_path: Path, garbage: bytes) -> None:
    """F8: a new name would leave what runs on the engine to nobody."""
    StateDir(tmp_path).close()
    (tmp_path / "identity").unlink()
    (tmp_path / "instance").write_bytes(garbage)
    with pytest.raises(StateDirUnusable, match=r"is damaged, .* put it back from a backup"):
        StateDir(tmp_path)
    assert (tmp_path / "instance").read_bytes() == garbage


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_name_that_was_damaged_is_known_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    """F8: and what was in its place is told, but not at length."""
    with StateDir(tmp_path / "s") as before:
        name, holder = before.instance, before.holder
    (tmp_path / "s" / "instance").write_bytes(garbage)
    assert name in describe(tmp_path / "s")
    with StateDir(tmp_path / "s") as again:
        assert (again.instance, again.holder) == (name, holder)
    assert f": the name {name} is taken from identity" in caplog.text
    assert f"is damaged (it begins with {garbage[:20]!r})" in caplog.text
    assert (tmp_path / "s" / "instance").read_text() == f"{name}\n"


@pytest.mark.parametrize("name", ["", "../../etc", "two words"])
def test_name_that_the_other_file_repeats_is_checked_as_well(tmp_path: Path, name: str) -> None:
    """F8"""
    StateDir(tmp_path).close()
    identity = read_identity(tmp_path)
    assert identity is not None
    write_identity(tmp_path, msgspec.structs.replace(identity, instance=name))
    (tmp_path / "instance").write_bytes(b"hello world")
    with pytest.raises(StateDirUnusable, match="is damaged"):
        StateDir(tmp_path)


async def test_name_of_another_instance_is_not_believed(tmp_path: Path) -> None:
    """F8: neither is what this one runs left to nobody, nor what the other runs removed."""
    state, world = tmp_path / "s", StreamingFake().world
    async with in_process(tmp_path / "other", engine=StreamingFake(world)) as lab:
        session = await (await lab.wire()).call("session.start")
        with StateDir(state) as before:
            name = before.instance
        shutil.copy(tmp_path / "other" / "instance", state)
        said = await refused(state)
        assert (
            f"says that this is the instance test, and identity beside it that it is {name}" in said
        )
        assert f"write {name} into instance again, or remove identity if test is right" in said
        code, _, err = await operatord("sweep", *PROCESS, "--grace", "0", state_dir=state)
        assert (code, err.count("Traceback")) == (1, 0)
        assert f"that it is {name}" in err
        found = await (await lab.wire()).call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
    (state / "instance").write_text(name)
    with StateDir(state) as again:
        assert again.instance == name


async def test_sessions_go_on_though_the_name_was_damaged_while_no_daemon_ran(
    tmp_path: Path,
) -> None:
    """F8: they carry the true name."""
    world, keep = StreamingFake().world, {"on_shutdown": "keep"}
    engine = Lasting(world)
    async with in_process(tmp_path / "s", keep, engine=engine) as lab:
        session = await (await lab.wire()).call("session.start")
    (tmp_path / "s" / "instance").write_bytes(b"\0garbage")
    daemon = Daemon(settings(tmp_path / "s", keep), None, Parts(engine))
    lab = Lab(daemon, await daemon.start())
    wire = await lab.wire()
    found = await wire.call("session.get", session_id=session["session_id"])
    assert (daemon.instance, found["phase"]) == ("test", "running")
    await wire.call("session.stop", session_id=session["session_id"])
    await lab.close()
    await engine.end()


def test_copy_is_refused_though_the_name_of_the_original_was_damaged(tmp_path: Path) -> None:
    """N7: the directory is at its path all the same."""
    with StateDir(tmp_path / "s"):
        copied = copy(tmp_path / "s")
        (tmp_path / "s" / "instance").write_bytes(b"hello world")
        (tmp_path / "s" / "identity").unlink()
        with pytest.raises(StateDirUnusable, match="is a copy of"):
            StateDir(copied)


def test_copy_with_the_inode_number_of_its_original_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N7: both are the top directories of file systems of the same kind, or of snapshots."""
    look = identity_module.as_found

    def top(directory: Path, instance: str = "") -> identity_module.Identity:
        return msgspec.structs.replace(look(directory, instance), inode=256)

    monkeypatch.setattr(identity_module, "as_found", top)
    first = StateDir(tmp_path / "s")
    copied = copy(tmp_path / "s")
    with pytest.raises(StateDirUnusable, match="is a copy of"):
        StateDir(copied)
    first.close()
    again = StateDir(tmp_path / "s")
    again.close()
    assert again.holder == first.holder


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on another machine from now on."""
    file = tmp_path / "machine-id"
    file.write_text("another\n")
    monkeypatch.setattr(identity_module, "MACHINE_ID", file)


@pytest.mark.parametrize("how", ["another machine", "the original is out of sight"])
async def test_engine_knows_a_copy_that_the_directory_does_not_give_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """N7: on another machine with the same engine, or in a container that does not see the original."""
    world = StreamingFake().world
    async with in_process(tmp_path / "s", engine=StreamingFake(world)) as lab:
        wire = await lab.wire()
        session = await wire.call("session.start")
        copied = copy(tmp_path / "s")
        if how == "another machine":
            elsewhere(tmp_path, monkeypatch)
        else:
            (tmp_path / "s").rename(tmp_path / "hidden")
        await not_ours(copied, world)
        options = Options(
            lambda _: None, lambda _: None, 0.0, make_engine=lambda: FakeEngine("test", world)
        )
        with pytest.raises(CannotSweep, match="another state directory"):
            await sweep_once(settings(copied), options)
        assert len(world.containers) == 3
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        if how != "another machine":
            (tmp_path / "hidden").rename(tmp_path / "s")
    assert world.holders == {}, "nothing is left that it would mark"


async def not_ours(state_dir: Path, world: World) -> None:
    """Start a daemon that is told so, and see it off."""
    daemon = Daemon(settings(state_dir), None, Parts(StreamingFake(world)))
    with pytest.raises(NotOurs, match="operatord identity --take-over"):
        await daemon.start()
    await daemon.stop()


async def test_copy_of_a_stopped_original_does_not_take_what_that_has_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N7: with `on_shutdown: keep`; the original goes on with its session."""
    world = StreamingFake().world
    keep = {"on_shutdown": "keep"}
    engine = Lasting(world)
    async with in_process(tmp_path / "s", keep, engine=engine) as lab:
        session = await (await lab.wire()).call("session.start")
    assert len(world.holders) == 1
    copied = copy(tmp_path / "s")
    elsewhere(tmp_path, monkeypatch)
    await not_ours(copied, world)
    monkeypatch.undo()
    async with in_process(tmp_path / "s", keep, engine=engine) as lab:
        wire = await lab.wire()
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        await wire.call("session.stop", session_id=session["session_id"])
    await engine.end()
    assert world.holders == {}


class Lasting(StreamingFake):
    """A fake whose streams outlive the daemon."""

    async def close(self) -> None:
        """Say goodbye to the daemon only."""

    async def end(self) -> None:
        await super().close()


async def test_instance_that_is_taken_while_the_engine_was_away_ends_its_daemon(
    lab: Lab,
) -> None:
    """N7: somebody took over meanwhile; the daemon says so, ends, and leaves everything alone."""
    wire = await lab.wire()
    await wire.call("session.start")
    world = lab.fake.world
    await wire.call("events.subscribe", types=["engine.lost"])
    world.lose()
    world.holders["test"] = "somebody else"
    await wire.event("engine.lost")
    world.come_back()
    await until(lambda: lab.daemon.link.ownership.problem is not None, "it is noticed")
    status = await wire.call("system.status")
    assert status["engine"]["state"] == "unavailable"
    assert "another state directory" in status["engine"]["reason"]
    assert (await wire.refusal("session.start", on_shortage="refuse")).type == "engine_unavailable"
    with pytest.raises(NotOurs):
        await lab.daemon.run_until_stopped()
    assert len(world.containers) == 3
    assert world.holders == {"test": "somebody else"}


async def test_sweep_takes_the_mark_of_a_dead_daemon_away_with_the_last_of_it(
    tmp_path: Path,
) -> None:
    """N7: not before, and not while a daemon runs."""
    world = StreamingFake().world
    options = Options(
        lambda _: None, lambda _: None, 0.0, make_engine=lambda: FakeEngine("test", world)
    )
    async with in_process(tmp_path / "s", engine=StreamingFake(world)):
        assert await sweep_once(settings(tmp_path / "s"), options)
        assert len(world.holders) == 1
    left = StateDir(tmp_path / "s")
    left.close()
    world.holders["test"] = left.holder  # as a daemon that was killed leaves it
    assert await sweep_once(settings(tmp_path / "s"), options._replace(dry_run=True))
    assert len(world.holders) == 1
    assert await sweep_once(settings(tmp_path / "s"), options)
    assert world.holders == {}


# Backups


async def test_backup_of_a_running_daemon_is_put_back(tmp_path: Path) -> None:
    """N7: history, probes and the name are there again; what began since is left alone."""
    state, file = tmp_path / "s", tmp_path / "backup"
    async with served(state, *PROCESS) as daemon:
        wire = await daemon.wire()
        done = await wire.call("session.start", count=3)
        await receive(done["location"])
        await wire.call("session.wait", session_id=done["session_id"])
        await wire.call("probe.register", name="scope", host="127.0.0.1", port=9)
        code, out, _ = await operatord("backup", str(file), state_dir=state)
        assert (code, mode(file)) == (0, 0o600)
        assert daemon.instance in out
        await wire.close()
    instance = daemon.instance
    shutil.rmtree(state)
    assert (await operatord("restore", str(file), state_dir=state))[0] == 0
    async with served(state, *PROCESS) as daemon:
        assert daemon.instance == instance
        wire = await daemon.wire()
        listed = (await wire.call("session.list"))["sessions"]
        assert [each["session_id"] for each in listed] == [done["session_id"]]
        assert [each["name"] for each in (await wire.call("probe.list"))["probes"]] == ["scope"]
        await wire.close()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        fact = db.execute("SELECT data FROM fact WHERE name = 'unknown_past'").fetchone()
        assert fact == (b"true",)


async def test_what_cannot_be_done_is_a_sentence(tmp_path: Path) -> None:
    """N7: and nothing is changed."""
    state, other = tmp_path / "s", tmp_path / "other"
    file = tmp_path / "backup"
    code, _, err = await operatord("backup", str(file), state_dir=state)
    assert (code, err.count("\n")) == (1, 1)
    async with served(state, *PROCESS):
        for command in (("restore", str(file)), ("identity", "--new"), ("identity", "--take-over")):
            code, _, err = await operatord(*command, state_dir=state)
            assert (code, err.count("\n")) == (1, 1), command
        assert (await operatord("backup", str(file), state_dir=state))[0] == 0
    code, _, err = await operatord("restore", str(file), state_dir=state)
    assert code == 1
    assert "is there already" in err
    file.write_bytes(file.read_bytes()[:20_000])
    code, _, err = await operatord("restore", str(file), state_dir=other)
    assert (code, err.count("\n")) == (1, 1)
    assert "is damaged (" in err
    assert not other.exists()


def nothing(path: Path) -> None:
    """There is no file."""


def a_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE fact (name TEXT, data BLOB)")


def a_database_with_its_version(path: Path) -> None:
    a_database(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")


def a_backup_of_nobody(path: Path) -> None:
    with StateDir(path.with_name("nobody")) as state:
        open_sound(state.path / "journal.sqlite").close()
        backup(state.path, path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fact SET data = CAST('../..' AS BLOB) WHERE name = 'instance'")
        db.commit()


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing, "No such file or directory"),
        (a_directory, "is a directory, not a backup"),
        (a_fifo, "is a named pipe, not a backup"),
        (a_link_to_a_device, "is a link to something that is not a file, not a backup"),
        (a_link_to_nowhere, "is a link that leads nowhere, not a backup"),
        (Path.touch, "is empty, not a backup"),
        (lambda path: path.write_text("a: b\n"), "is not an SQLite file, so it is not a backup"),
        (a_database, "is an SQLite file, but not a journal of operatord"),
        (a_database_with_its_version, "is damaged (it does not have the tables of a journal)"),
        (a_backup_of_nobody, "is damaged (it does not say whose it is)"),
    ],
)
async def test_what_is_no_backup_is_told_for_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    """N7: in one sentence, and nothing is changed."""
    make(tmp_path / "file")
    code, out, err = await operatord("restore", str(tmp_path / "file"), state_dir=tmp_path / "s")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert str(tmp_path / "file") in err
    assert not (tmp_path / "s").exists()


async def test_device_is_no_backup(tmp_path: Path) -> None:
    """N7"""
    code, _, err = await operatord("restore", "/dev/null", state_dir=tmp_path / "s")
    assert code == 1
    assert "/dev/null is a device, not a backup: name a file that `operatord backup` wrote" in err


async def test_backup_that_cannot_be_written_names_the_file_that_was_meant(tmp_path: Path) -> None:
    """And what is no file is left as it is, also where whoever asks may do everything."""
    async with in_process(tmp_path / "s"):
        pass
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for target, reason in (
        (tmp_path / "nope" / "x", "No such file or directory"),
        (fifo, "is not a file"),
        (tmp_path, "is not a file"),
    ):
        code, _, err = await operatord("backup", str(target), state_dir=tmp_path / "s")
        assert (code, err.count("\n")) == (1, 1)
        assert reason in err
        assert str(target) in err
        assert ".new" not in err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["fifo", "s"]


async def test_backup_replaces_a_file_only_where_that_is_asked_for(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s"):
        pass
    file = tmp_path / "backup"
    file.touch()
    for _ in range(2):
        code, _, err = await operatord("backup", str(file), state_dir=tmp_path / "s")
        assert (code, err.count("\n")) == (1, 1)
        assert f"{file} is there already: name another file, or replace it with --force" in err
        assert (await operatord("backup", "--force", str(file), state_dir=tmp_path / "s"))[0] == 0
        assert file.read_bytes().startswith(b"SQLite format 3\0")


def contents(directory: Path) -> dict[str, bytes]:
    """Return all files of a directory."""
    return {each.name: each.read_bytes() for each in directory.iterdir() if each.is_file()}


def in_state_dir(name: str) -> Callable[[Path], Path]:
    return lambda path: path / "s" / name


def by_a_link(path: Path) -> Path:
    (path / "link").symlink_to(path / "s" / "identity")
    return path / "link"


def by_a_linked_directory(path: Path) -> Path:
    (path / "linked").symlink_to(path / "s", target_is_directory=True)
    return path / "linked" / "new"


def a_letter(path: Path) -> Path:
    (path / "letter").write_text("a letter")
    return path / "letter"


def the_settings(path: Path) -> Path:
    """Return a link to the settings, which are empty, as a file may be that a backup replaces."""
    (path / "also").symlink_to(path / "settings.yaml")
    return path / "also"


IN_STATE_DIR = "where the daemon has its own files: name a file elsewhere"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        *((in_state_dir(name), IN_STATE_DIR) for name in ("journal.sqlite", "lock", "instance")),
        *((in_state_dir(name), IN_STATE_DIR) for name in ("identity", "new", "process/new")),
        (by_a_link, IN_STATE_DIR),
        (by_a_linked_directory, IN_STATE_DIR),
        (a_letter, "is there already and is not a backup, so it is left as it is: name another"),
        (the_settings, "has the settings, and is left as it is: name another file"),
    ],
)
async def test_backup_replaces_nothing_but_a_backup(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    """N7: not by --force either: the daemon would not start again without what was there."""
    async with in_process(tmp_path / "s"):
        pass
    config = tmp_path / "settings.yaml"
    config.touch()
    target = make(tmp_path)
    before = contents(tmp_path / "s"), contents(tmp_path)
    code, out, err = await operatord(
        "backup", "--force", str(target), "--config", str(config), state_dir=tmp_path / "s"
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{target} " in err
    assert said in err
    assert (contents(tmp_path / "s"), contents(tmp_path)) == before


async def test_backup_by_a_link_is_written_where_that_leads(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s"):
        pass
    link = tmp_path / "newest"
    link.symlink_to(tmp_path / "monday")
    assert (await operatord("backup", str(link), state_dir=tmp_path / "s"))[0] == 0
    assert link.readlink().is_file()


async def test_instance_is_taken_over_by_command(tmp_path: Path) -> None:
    """N7: what was put back elsewhere is known by its new place then."""
    first = StateDir(tmp_path / "s")
    moved = copy(tmp_path / "s", "moved")
    code, _, err = await operatord("identity", "--take-over", *PROCESS, state_dir=moved)
    assert code == 1
    assert "stop it first" in err
    first.close()
    assert (await operatord("identity", "--take-over", *PROCESS, state_dir=moved))[0] == 0
    assert (found := read_identity(moved)) is not None
    assert found.holder != first.holder
    again = StateDir(moved)
    assert (again.instance, again.holder) == (first.instance, found.holder)
    again.close()
    with pytest.raises(StateDirUnusable):
        StateDir(copy(moved, "third"))
