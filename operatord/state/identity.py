# SPDX-License-Identifier: MIT
"""Distinguishes a copy of a state directory from the original, so that two daemons never share one instance.
Each would treat the other's sessions as orphans. A copy has the original's name (`instance`), its journal and
its lock file, so none of these can tell. But it is another directory: the file ``identity`` says on which
machine the directory is, with which inode number and at which path, and has a random ``holder`` that is kept
as long as the first two are right. It repeats the name, in case a power failure or another program empties or
damages `instance`: with another name, all running sessions on the engine would have no owner.

- The original is still at the path that is written down, and this is another directory: it is a copy, and
  refused. Its inode number says nothing then: the top directories of two file systems often have the same.
- As before, or moved by renaming: the same holder.
- Anything else may be a copy or all that is left: put back from a backup, moved to another disk or machine.
  It gets a new holder, and the engine's mark shows whether the instance belongs to an earlier one
  (`engine_link.ownership`).

Not noticed: a machine copied whole, with its id and its inodes, if both use the engine of a third one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from operatord.machine.file_kind import no_file

log = logging.getLogger(__name__)

IDENTITY = "identity"
INSTANCE = "instance"
MACHINE_ID = Path("/etc/machine-id")
"""machine-id(5). Containers often have none: then all machines count as one, and the inode tells."""


MOST_BYTES = 16 * 1024
"""Of each of these files; a path has 4096 at most, and JSON may take several for one."""
_NAME = re.compile("[0-9A-Za-z][0-9A-Za-z_.-]{0,31}")
"""operatord makes names of 12 digits, and accepts another one that a person has written."""


class StateDirUnusable(Exception):
    """The state directory cannot be used by this process; the text says why, and what to do."""


class Identity(msgspec.Struct, frozen=True):
    """Which directory it is."""

    holder: str
    machine: str
    inode: int
    path: str
    instance: str = ""
    """Its name; empty in what a daemon wrote that did not repeat it."""

    def is_at(self, there: Identity) -> bool:
        """Tell whether the directory that is described is the one that is found, whatever its path."""
        return (self.machine, self.inode) == (there.machine, there.inode)


def identify(directory: Path, instance: str) -> str:
    """Return the holder of a state directory, and write down where it is.

    Raises `StateDirUnusable` for a copy, `OSError`.
    """
    before, now = read_identity(directory), as_found(directory, instance)
    if before is not None and _is_copy(before, now, instance):
        raise StateDirUnusable(
            f"{directory} is a copy of {before.path}, and both would take the same sessions for their "
            "own: use the original, or make the copy an instance of its own with `operatord identity "
            f"--new --state-dir {directory}`"
        )
    if before is not None and before.is_at(now):
        now = msgspec.structs.replace(now, holder=before.holder)
    elif before is not None:
        log.warning(
            "%s was %s before: it has been copied, moved or put back", directory, before.path
        )
    if now != before:
        write_identity(directory, now)
    return now.holder


def read_identity(directory: Path) -> Identity | None:
    """Return what is written down; None if there is nothing that can be read.

    Raises `StateDirUnusable`, `OSError`.
    """
    with contextlib.suppress(msgspec.MsgspecError):
        found = _read(directory / IDENTITY)
        return None if found is None else msgspec.json.decode(found, type=Identity)
    return None


def write_identity(directory: Path, identity: Identity) -> None:
    """Write down which directory it is. Raises `OSError`."""
    write_whole(directory / IDENTITY, msgspec.json.encode(identity) + b"\n")


def read_instance(directory: Path) -> str | None:
    """Return the name that a daemon has given itself in a state directory; None when there never was one.

    Where `INSTANCE` is empty or damaged, it is the name that `IDENTITY` repeats. No other name is used: with
    a wrong one, running sessions would have no owner, and another daemon's sessions could be treated as ours.

    Raises `StateDirUnusable`, `OSError`.
    """
    file = directory / INSTANCE
    if (found := _read(file)) is None:
        return None
    name, repeated = _name_in(found), _repeated_name(directory)
    if name is None and found.strip() and repeated is None:
        raise StateDirUnusable(
            f"{file} is damaged, and with it which sessions are whose: put it back "
            "from a backup, or remove it to begin as a new instance"
        )
    if name is not None and repeated not in (None, name):
        raise StateDirUnusable(
            f"{file} says that this is the instance {name}, and {IDENTITY} beside it that it is {repeated}: "
            f"write {repeated} into {INSTANCE} again, or remove {IDENTITY} if {name} is right"
        )
    return name or repeated


def foreign_file(directory: Path, instance: str) -> str | None:
    """Return which file says that a directory is not this instance's, and what to do about it.

    None if none does. It names no path, since clients are told. Raises `StateDirUnusable`, `OSError`.
    """
    for name in (INSTANCE, IDENTITY):
        if kind := no_file(directory / name):
            return f"{kind} has taken the place of the file {name} in the state directory; move it away"
    if _name_in(_read(directory / INSTANCE) or b"") != instance:
        what = f"the file {INSTANCE} in the state directory is not that of this daemon any more"
        return f"{what}; write {instance} into it again"
    if _repeated_name(directory) not in (None, instance):
        what = f"the file {IDENTITY} in the state directory is that of another instance than {instance}"
        return f"{what}; put back the one that was there"
    return None


def settle_instance(directory: Path) -> str:
    """Return the name in a state directory, which gets a new one if it has none and never had.

    Raises `StateDirUnusable`, `OSError`.
    """
    file = directory / INSTANCE
    name, found = read_instance(directory), _read(file)
    if found is None:
        before, name = _repeated_name(directory), new_instance(directory)
        if before is not None:
            log.warning(
                "%s is gone: this is no longer the instance %s, but %s. To go on as before, stop the daemon, "
                "write the first name into it and remove %s",
                file, before, name, IDENTITY,
            )  # fmt: skip
        return name
    if name is None:
        name = new_instance(directory)
        log.warning(
            "%s was empty, and nothing else tells the name: this is the instance %s from now on. What an "
            "earlier one left on the engine is not removed; docker ps --filter label=operatord.instance "
            "shows it",
            file, name,
        )  # fmt: skip
    elif _name_in(found) is None:
        what = f"is damaged (it begins with {found[:20]!r})" if found.strip() else "is empty"
        log.warning("%s %s: the name %s is taken from %s", file, what, name, IDENTITY)
        write_instance(directory, name)
    return name


def new_instance(directory: Path) -> str:
    """Give a state directory a new name, and return it. Raises `StateDirUnusable`, `OSError`."""
    name = uuid.uuid4().hex[:12]
    rename_instance(directory, name)
    return name


def rename_instance(directory: Path, name: str) -> None:
    """Give a state directory a name, whichever it had. Raises `StateDirUnusable`, `OSError`."""
    if (before := read_identity(directory)) is not None:
        write_identity(directory, msgspec.structs.replace(before, instance=name))
    write_instance(directory, name)


def write_instance(directory: Path, name: str) -> None:
    """Write down the name of a state directory. Raises `OSError`."""
    write_whole(directory / INSTANCE, name.encode() + b"\n")


def is_name(text: str) -> bool:
    """Tell whether it can be the name of an instance: it is part of labels, and of names on the engine."""
    return _NAME.fullmatch(text) is not None


def _name_in(data: bytes) -> str | None:
    """Return the name in a file; None if there is none, or anything else."""
    text = data.decode("ascii", "replace").strip()
    return text if is_name(text) else None


def _repeated_name(directory: Path) -> str | None:
    identity = read_identity(directory)
    return identity.instance if identity is not None and is_name(identity.instance) else None


def _read(path: Path) -> bytes | None:
    """Return what is in a small file; None if there is none. Raises `StateDirUnusable`, `OSError`."""
    if kind := no_file(path):
        raise StateDirUnusable(f"{path} is {kind}, and must be a file: put the file back")
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(MOST_BYTES)
    return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that whoever reads it finds the old one or the new one. Raises `OSError`."""
    with draft_of(path) as draft:
        draft.write_bytes(data)
        draft.chmod(0o600)


@contextlib.contextmanager
def draft_of(path: Path, name: str = "") -> Iterator[Path]:
    """Give the name of a file beside ``path`` that takes its place at the end, or is gone after an error.

    ``name``: its name, where the usual one may be somebody else's file. Raises `OSError`, which names
    ``path`` and not a file that nobody has asked for.
    """
    draft = path.with_name(name or path.name + ".new")
    try:
        yield draft
        draft.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        if exc.filename in (None, str(draft)):  # a write that fails names no file at all
            raise OSError(exc.errno, exc.strerror, str(path)) from exc
        raise
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def as_found(directory: Path, instance: str = "") -> Identity:
    """Return what would be written down of a directory with that name now, with a new holder."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = MACHINE_ID.read_text("ascii").strip()
    inode = directory.stat().st_ino
    return Identity(uuid.uuid4().hex, machine, inode, str(directory.resolve()), instance)


def _is_copy(before: Identity, now: Identity, instance: str) -> bool:
    """Tell whether the directory that was written down is still at its path, and another one than this."""
    there = Path(before.path)
    with contextlib.suppress(OSError):
        is_there = before.is_at(as_found(there)) and not there.samefile(now.path)
        return is_there and _may_be(there, instance)
    return False


def _may_be(directory: Path, instance: str) -> bool:
    """Tell whether a directory has this name, or had before it was damaged. Raises `OSError`."""
    try:
        return read_instance(directory) == instance
    except StateDirUnusable:
        return True
