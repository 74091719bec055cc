# SPDX-License-Identifier: MIT
"""The directory that one daemon at a time has to itself, closed to other users.

Whoever can write into it decides what the daemon removes from the engine, and whoever can read it knows who
asked for what. So it belongs to the user that the daemon runs as, and nobody else can look into it: what was
left open is closed at the start. A directory that others use as well, such as ``/tmp``, is refused, since
they would be locked out.

Two things are locked: the directory itself, and the file ``lock`` in it. That may be deleted while a daemon
runs, but is all that earlier versions look at.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import Self

from operatord.gate.keys import KEY
from operatord.gate.program import SOCKET
from operatord.machine.file_kind import NOWHERE, kind_of, no_file
from operatord.store.journal_file import JOURNAL

from .identity import IDENTITY, INSTANCE, StateDirUnusable

log = logging.getLogger(__name__)

LOCK = "lock"
FILES = (LOCK, INSTANCE, IDENTITY, JOURNAL, KEY)
PROCESSES = "process"
"""A directory, of the engine of local processes."""
OURS = (*FILES, PROCESSES, SOCKET)
"""What begins the names of what the daemon has in it; other files are none of its business."""
MADE_BY_MKFS = "lost+found"
"""A directory that a new file system has, and that does not count as use."""
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StateDirBusy(StateDirUnusable):
    """Another process has the state directory's lock."""


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
        _require_files(path, *FILES)
        _require_directory(path / PROCESSES)
        self._directory = _locked_directory(path)
        try:
            self._lock = _locked_file(path)
        except BaseException:
            os.close(self._directory)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def is_at_its_path(self) -> bool:
        """Whether the directory that is locked is the one at the path."""
        with contextlib.suppress(OSError):  # the directory may be behind a link
            return os.path.samestat(os.fstat(self._directory), self.path.stat())
        return False

    @property
    def has_its_file(self) -> bool:
        """Whether the lock file that is locked is the one in the directory."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock), (self.path / LOCK).lstat())
        return False

    @property
    def is_deleted(self) -> bool:
        """Whether the directory that is locked is nowhere any more.

        Where one file system lies over another, a directory of the lower one keeps its link count; what
        was in it does not.
        """
        if not os.fstat(self._directory).st_nlink:
            return True
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{self._directory}")  # noqa: PTH115 - it is no path
            return name.endswith(" (deleted)") and not os.fstat(self._lock).st_nlink
        return False

    def lock_file_again(self) -> None:
        """Lock the file that is in the place of the one that is locked, made anew if there is none.

        Raises `StateDirBusy`, `StateDirUnusable`, `OSError`.
        """
        fresh = _locked_file(self.path)
        os.close(self._lock)
        self._lock = fresh

    def take(self, other: StateLock) -> None:
        """Exchange locks with another one."""
        self._directory, other._directory = other._directory, self._directory
        self._lock, other._lock = other._lock, self._lock

    def close(self) -> None:
        """Release it, for another daemon. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            os.close(self._directory)
            self._lock = self._directory = -1


def in_the_way(path: Path) -> tuple[Path, str]:
    """Return what keeps a directory from being at a path: it, or something above it, with what that is."""
    for each in (path, *path.parents):
        if (kind := kind_of(each)) is not None:
            return each, kind
    return path, "nothing"


def way_out(kind: str) -> str:
    """Return what to do about what is in the way."""
    return "make what it leads to, or remove it" if kind == NOWHERE else "move it away"


def _make(path: Path) -> None:
    """Make the directory if it is not there yet. Raises `StateDirUnusable`, `OSError`."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as exc:
        what, kind = in_the_way(path)
        which = "it" if what == path else str(what)
        raise StateDirUnusable(
            f"{path} is not a directory, because {which} is {kind}: {way_out(kind)}, or choose another "
            "--state-dir"
        ) from exc


def _require_own(path: Path) -> None:
    """Refuse a directory that others may be using. Raises `StateDirUnusable`, `OSError`.

    It is told by what it holds, or by the sticky bit, which is for directories that everybody writes to. A
    directory that is closed to others, or that a daemon has already used, is accepted as it is.
    """
    mode = path.stat().st_mode
    if not mode & OPEN_TO_OTHERS or (path / INSTANCE).exists():
        return
    foreign = sorted(each.name for each in path.iterdir() if not _is_ours(each.name))
    if foreign or mode & stat.S_ISVTX:
        what = f"such as {foreign[0]!r}" if foreign else "and everybody may write there"
        raise StateDirUnusable(
            f"{path.resolve()} is not a directory of operatord's alone: it is open to other users and used "
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


def _require_files(path: Path, *names: str) -> None:
    """Refuse something else in the place of one of our files: opening it could block for ever.

    Raises `StateDirUnusable`.
    """
    for name in names:
        if kind := no_file(path / name):
            back = " and put the file back: without it, this is another instance"
            raise StateDirUnusable(
                f"{path / name} is {kind}, and must be a file: move it away"
                + (back if name == INSTANCE else "")
            )


def _require_directory(path: Path) -> None:
    """Refuse what is in the place of a directory of ours. Raises `StateDirUnusable`."""
    if (kind := kind_of(path)) not in (None, "a directory"):
        raise StateDirUnusable(f"{path} is {kind}, and must be a directory: move it away")


def _locked_directory(path: Path) -> int:
    """Return a descriptor of the directory that has its lock. Raises `StateDirBusy`, `OSError`."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _flock(directory, path)
    except StateDirBusy:
        os.close(directory)
        raise
    except OSError as exc:
        # NFS, for one, locks only what is open for writing; then the file has to do.
        log.debug("a directory cannot be locked here: %s: %s", exc.strerror, path)
    return directory


def _locked_file(path: Path) -> int:
    """Return a descriptor of the lock file that has its lock.

    Raises `StateDirBusy`, `StateDirUnusable`, `OSError`.
    """
    _require_files(path, LOCK)
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _flock(lock, path)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _flock(descriptor: int, path: Path) -> None:
    """Lock an open file. Raises `StateDirBusy` if another process has its lock, `OSError`."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise StateDirBusy(
            f"another operatord uses {path}{_holder_of(descriptor)}; stop it, or give this one a "
            "--state-dir of its own"
        ) from exc


def _holder_of(descriptor: int) -> str:
    """Return which process has the lock, for a sentence; empty where the kernel does not tell.

    Source: proc_locks(5), ``/proc/locks``.
    """
    inode = f":{os.fstat(descriptor).st_ino}"
    with contextlib.suppress(OSError, LookupError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.replace("->", "").split()
            if kind == "FLOCK" and place.endswith(inode):
                return f" (process {pid}, {Path('/proc', pid, 'comm').read_text().strip()})"
    return ""
