# SPDX-License-Identifier: MIT
"""Whether the journal's files are still at their path, and how they are put back there.

SQLite goes on writing to an open file that was deleted or moved away, where nobody finds it again. So the
paths are looked up after each commit, before anything counts as written. Nothing is lost by then, since the
open file has everything, and a copy of it is put back; unless somebody has put another file there, which must
not be overwritten.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from operatord.machine.file_kind import no_file

from .journal_file import SUFFIXES, JournalFailed, make_private


class JournalPlace:
    """The files of an open journal, as they were when it was opened."""

    def __init__(self, path: Path) -> None:
        """The journal at ``path`` is open, and has been written to."""
        self._path = path
        self._ours = self._found()
        self._copy: tuple[int, int] | None = None
        """What has been put back, until it is opened."""

    @property
    def is_right(self) -> bool:
        """Whether the files that are open are those at the path; three system calls."""
        found = self._found()
        return all(found[suffix] == ours for suffix, ours in self._ours.items() if ours)

    def put_back(self, journal: sqlite3.Connection) -> None:
        """Put a copy of all that an open ``journal`` has at its path. It is to be opened anew then.

        Raises `JournalFailed` if somebody else's file is there, `sqlite3.Error`, `OSError`.
        """
        self._require_ours()
        draft = self._path.with_name(self._path.name + ".new")
        draft.unlink(missing_ok=True)
        try:
            make_private(draft)
            with contextlib.closing(sqlite3.connect(draft)) as copy:
                journal.backup(copy)
            self._require_ours()
            self._copy = _identity(draft)
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)
        # After the copy: a death in between leaves a log whose content the copy has, and no journal without
        # its log.
        for suffix in SUFFIXES[1:]:
            self._named(suffix).unlink(missing_ok=True)

    def _require_ours(self) -> None:
        found = self._found()
        if self._copy is not None and found[""] == self._copy:
            return  # it could not be opened
        for suffix, ours in self._ours.items():
            if found[suffix] not in (None, ours):
                what = no_file(self._named(suffix)) or "another file"
                raise JournalFailed(
                    f"{what} has taken the place of the journal in the state directory; move that away"
                )

    def _found(self) -> dict[str, tuple[int, int] | None]:
        """Return device and inode of what is at each of the names."""
        found: dict[str, tuple[int, int] | None] = dict.fromkeys(SUFFIXES)
        for suffix in SUFFIXES:
            with contextlib.suppress(OSError):
                found[suffix] = _identity(self._named(suffix))
        return found

    def _named(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)


def _identity(path: Path) -> tuple[int, int]:
    """Return device and inode. Raises `OSError`."""
    status = path.lstat()
    return status.st_dev, status.st_ino
