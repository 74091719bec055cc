# SPDX-License-Identifier: MIT
"""The directory of one daemon, and the name under which it is known for good.

`lock` decides who may use it, `identity` distinguishes a copy from the original.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from operatord.machine.file_kind import no_file

from .identity import (
    StateDirUnusable,
    as_found,
    foreign_file,
    identify,
    read_instance,
    settle_instance,
    write_identity,
    write_instance,
)
from .lock import LOCK, StateDirBusy, StateLock, in_the_way, way_out

log = logging.getLogger(__name__)


class StateDirLost(StateDirUnusable):
    """The state directory is not at its path any more, and cannot be put back; the text names no path."""


class StateDir(StateLock):
    """A directory of this daemon alone, and the name that outlives a restart."""

    def __init__(self, path: Path) -> None:
        """Lock it. Raises `StateDirBusy`, `StateDirUnusable`, for a copy as well, `OSError`."""
        super().__init__(path)
        self._securing = threading.Lock()
        try:
            self.instance = settle_instance(path)
            self.holder = identify(path, self.instance)
        except BaseException:
            self.close()
            raise

    def secure(self) -> None:
        """Make sure that the directory at the path is this one, and put back deleted parts of it. Other files
        in it are restored by their owners. Any thread may ask for it. Raises `StateDirLost`.
        """
        with self._securing:
            if not self.is_at_its_path:
                if not self.is_deleted:
                    raise StateDirLost("the state directory has been moved away; move it back")
                self._regain(self._make_anew, "stop it, and move away what it leaves")
            elif not self.has_its_file:
                self._regain(self._lock_again, "stop it")

    def _regain(self, act: Callable[[], None], against_another: str) -> None:
        """Put back what was deleted. Raises `StateDirLost`, which says what to do ``against_another``."""
        try:
            act()
        except StateDirBusy as exc:
            what = "another operatord has taken the state directory"
            raise StateDirLost(f"{what}; {against_another}") from exc
        except (StateDirUnusable, OSError) as exc:
            log.debug("the state directory cannot be put back: %s", exc)
            raise StateDirLost(
                self._obstacle() or self._foreign_file() or _cannot_be_made(exc)
            ) from exc
        log.warning(
            "the state directory, or its lock, was deleted, and is there again: %s", self.path
        )

    def _lock_again(self) -> None:
        """Put the lock back, and what went with it if all that is in the directory was deleted.

        Raises `StateDirBusy`, `StateDirUnusable`, `OSError`.
        """
        read_instance(self.path)  # with the lock there again, nobody would look at it the next time
        self.lock_file_again()
        if read_instance(self.path) is None:
            self._write_down()

    def _write_down(self) -> None:
        """Write down which instance it is, and that it is the original. Raises `OSError`."""
        write_instance(self.path, self.instance)
        found = as_found(self.path, self.instance)
        write_identity(self.path, msgspec.structs.replace(found, holder=self.holder))

    def _make_anew(self) -> None:
        """Make the directory where it was. Raises `StateDirUnusable`, `OSError`."""
        with StateLock(self.path) as fresh:
            if read_instance(self.path) not in (None, self.instance):
                raise StateDirBusy("another instance has worked in it")
            self._write_down()
            self.take(fresh)

    def _obstacle(self) -> str | None:
        """Return what is in the place of the directory or of its lock, and what to do about it."""
        if self.path.is_dir():
            kind = no_file(self.path / LOCK)
            lock = "stands in the place of the state directory's lock; move it away"
            return kind and f"{kind} {lock}"
        what, kind = in_the_way(self.path)
        if what.is_dir():
            return None
        place = "in the place of" if what == self.path else "in the path of"
        return f"{kind} stands {place} the state directory; {way_out(kind)}"

    def _foreign_file(self) -> str | None:
        """Return what is wrong with the files of the directory, if that is still this one."""
        if not self.is_at_its_path:
            return None
        with contextlib.suppress(StateDirUnusable, OSError):
            return foreign_file(self.path, self.instance)
        return None


def _cannot_be_made(exc: StateDirUnusable | OSError) -> str:
    if isinstance(exc, StateDirUnusable):
        what = (
            "a directory that serves for something else stands in the place of the state directory"
        )
        return f"{what}; move it away"
    what = "the state directory has been deleted, and cannot be made again"
    return f"{what} ({exc.strerror}); make it, empty and open to nobody else"
