# SPDX-License-Identifier: MIT
"""The directory that one daemon at a time has to itself, and the name under which it is known for good.

Whoever can write into it decides what the daemon removes from the engine, and whoever can read it knows who
asked for what. So it belongs to the user that the daemon runs as, and nobody else can look into it: what was
left open is closed at the start. A directory that serves others as well, such as ``/tmp``, is refused,
for they would be locked out. `identity` says how a copy of it is told from the original.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import Self

import msgspec

from .identity import (
    IDENTITY,
    INSTANCE,
    StateDirUnusable,
    as_found,
    identify,
    read_instance,
    settle_instance,
    write_identity,
    write_instance,
)

log = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
LOCK = "lock"
OURS = (LOCK, INSTANCE, IDENTITY, JOURNAL, "process")
"""What begins the names of what the daemon has in it; other files are none of its business."""
MADE_BY_MKFS = "lost+found"
"""Is in a file system that was made for the state directory alone, and in no use."""
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StateDirBusy(StateDirUnusable):
    """Another process has the state directory's lock."""


class StateDirLost(StateDirUnusable):
    """The state directory is not at its path any more, and cannot be put back; the text names no path."""


class StateLock:
    """A directory that only this process uses, as long as it is open."""

    def __init__(self, path: Path) -> None:
        """Create it when needed, close it to others and lock it.

        Raises `StateDirBusy`, `StateDirUnusable`, `OSError`.
        """
        _make(path)
        self.path = path
        _require_own(path)
        _close_to_others(path)
        self._lock = _locked(path / LOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another daemon have it. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class StateDir(StateLock):
    """A directory of this daemon alone, and the name that outlives a restart."""

    def __init__(self, path: Path) -> None:
        """Lock it. Raises `StateDirBusy`, `StateDirUnusable`, for a copy as well, `OSError`."""
        super().__init__(path)
        try:
            self.instance = settle_instance(path)
            self.holder = identify(path, self.instance)
        except BaseException:
            self.close()
            raise

    def secure(self) -> None:
        """See to it that the directory at the path is this one, and put back what of it was deleted.

        What it holds besides is for others to put back. Raises `StateDirLost`.
        """
        if _is_at(self._lock, self.path / LOCK):
            return
        if os.fstat(self._lock).st_nlink:
            raise StateDirLost(
                "the state directory, or its lock, has been moved away; move it back"
            )
        try:
            self._put_back()
        except StateDirBusy as exc:
            what = "another operatord has taken the state directory"
            raise StateDirLost(f"{what}; stop it, and move away what it leaves") from exc
        except (StateDirUnusable, OSError) as exc:
            log.debug("the state directory cannot be put back: %s", exc)
            what = "the state directory has been deleted, and cannot be made again"
            raise StateDirLost(f"{what}; make it, empty and open to nobody else") from exc
        log.warning(
            "the state directory, or its lock, was deleted, and is there again: %s", self.path
        )

    def _put_back(self) -> None:
        """Make the directory anew where it was. Raises `StateDirUnusable`, `OSError`."""
        with StateLock(self.path) as fresh:
            if read_instance(self.path) not in (None, self.instance):
                raise StateDirBusy("another instance has worked in it")
            write_instance(self.path, self.instance)
            found = as_found(self.path, self.instance)
            write_identity(self.path, msgspec.structs.replace(found, holder=self.holder))
            self._lock, fresh._lock = fresh._lock, self._lock  # that of the deleted file goes


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one at a path."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _make(path: Path) -> None:
    """Make the directory if it is not there yet. Raises `StateDirUnusable`, `OSError`."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as exc:
        raise StateDirUnusable(
            f"{path} is no directory, or lies in something that is none: choose another --state-dir, or move "
            "away what is there"
        ) from exc


def _require_own(path: Path) -> None:
    """Refuse a directory in which others may have something to do. Raises `StateDirUnusable`, `OSError`.

    It is told by what it holds, or by the sticky bit, which is for directories that everybody writes to. One
    that is closed to others, or where a daemon has worked already, is taken as it is.
    """
    mode = path.stat().st_mode
    if not mode & OPEN_TO_OTHERS or (path / INSTANCE).exists():
        return
    foreign = sorted(each.name for each in path.iterdir() if not _is_ours(each.name))
    if foreign or mode & stat.S_ISVTX:
        what = f"such as {foreign[0]!r}" if foreign else "and everybody may write there"
        raise StateDirUnusable(
            f"{path.resolve()} is no directory of operatord's alone: it is open to other users and serves "
            f"for something else, {what}. Nobody else could use it any more; choose a --state-dir that is "
            "empty or not there yet"
        )


def _is_ours(name: str) -> bool:
    return name == MADE_BY_MKFS or name.startswith(OURS)


def _close_to_others(path: Path) -> None:
    """Take all rights on a directory and on what is ours in it from everybody but its owner, which is us.

    Raises `StateDirUnusable`, `OSError`.
    """
    for each in (path, *(each for each in path.iterdir() if each.name.startswith(OURS))):
        # The directory itself may be behind a link.
        found = each.stat() if each == path else each.lstat()
        if found.st_uid != os.geteuid():
            raise StateDirUnusable(
                f"{each} belongs to another user (uid {found.st_uid}, and this is uid {os.geteuid()}), who "
                "could decide what operatord removes: run operatord as that user, take the directory over "
                f"(chown -R {os.geteuid()} {path}), or use a --state-dir of its own"
            )
        if stat.S_ISLNK(found.st_mode):
            raise StateDirUnusable(f"{each} is a link: put what it leads to in its place")
        if found.st_mode & OPEN_TO_OTHERS:
            mode = stat.S_IMODE(found.st_mode)
            each.chmod(mode & ~OPEN_TO_OTHERS)
            log.warning("%s was open to other users (mode %04o), and is not any more", each, mode)


def _locked(path: Path) -> int:
    """Return a descriptor of the lock file that has its lock. Raises `StateDirBusy`, `StateDirUnusable`."""
    if path.exists() and not path.is_file():
        raise StateDirUnusable(f"{path} is no ordinary file: remove it")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        who = _holder_of(lock)
        os.close(lock)
        raise StateDirBusy(
            f"another operatord uses {path.parent}{who}; stop it, or give this one a --state-dir of its own"
        ) from exc
    return lock


def _holder_of(lock: int) -> str:
    """Return which process has the lock, for a sentence; empty where the kernel does not tell.

    Source: proc_locks(5), ``/proc/locks``.
    """
    inode = f":{os.fstat(lock).st_ino}"
    with contextlib.suppress(OSError, LookupError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.replace("->", "").split()
            if kind == "FLOCK" and place.endswith(inode):
                return f" (process {pid}, {Path('/proc', pid, 'comm').read_text().strip()})"
    return ""
