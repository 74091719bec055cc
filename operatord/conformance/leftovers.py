# SPDX-License-Identifier: MIT
"""A check's folder, by which a later `operatord sweep` finds what a check has left that was killed.

The check holds a lock on a file there, which the kernel releases at its end, whatever ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PREFIX = "operatord-check-"
MARK = "check"
"""The file: the check's instance, and in a second line where its engine is."""
_INSTANCE = re.compile(r"check-[0-9a-f]{8}\Z")
_MOST = 4096


class Left(NamedTuple):
    """What a check that was killed has left."""

    folder: Path
    instance: str
    """The label of all that it has made."""
    engine: str
    """The URL of the engine that has it; empty for local processes, which have ended with the check."""


@contextlib.contextmanager
def marked_folder(instance: str, engine: str) -> Iterator[Path]:
    """Yield a folder for a check that goes on until the end of the block. Raises `OSError`."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, (Path(name) / MARK).open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        mark.write(f"{instance}\n{engine}\n")
        mark.flush()
        yield Path(name)


def left_over() -> Iterator[Left]:
    """Yield what this user's checks have left, locked meanwhile; a check that goes on is not among it."""
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError), _opened(folder) as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            instance, _, engine = os.read(mark, _MOST).decode("utf-8", "replace").partition("\n")
            if _INSTANCE.match(instance):
                yield Left(folder, instance, engine.strip())


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Yield the file in a folder of this user's, where nobody else can have put it. Raises `OSError`."""
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError
        mark = os.open(MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    try:
        yield mark
    finally:
        os.close(mark)
