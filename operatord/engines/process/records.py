# SPDX-License-Identifier: MIT
"""What the process engine knows about its objects, on disk, so that a later daemon can clean up.

One file for each object, written before the object exists. A process is signalled only if more than its id
agrees with the record, since process ids are reused.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from operatord.engines.base import DiskFull, StageRefused


class Record(msgspec.Struct, kw_only=True):
    """An object of the process engine."""

    kind: Literal["container", "network"]
    id: str
    name: str
    labels: dict[str, str]
    started: bool = False
    pid: int | None = None
    pid_time: float | None = None
    """When the process started, in seconds since the epoch (`psutil.Process.create_time`)."""
    exit_code: int | None = None


class Records:
    """The records below one directory. Small local files: the calls block for microseconds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def home(self, object_id: str) -> Path:
        """Return the directory in which an object's process runs."""
        return self._directory / f"{object_id}.d"

    def save(self, record: Record) -> None:
        """Write a record so that a reader finds the old one or the new one, never half of it.

        Raises `DiskFull`, `StageRefused`.
        """
        path = self._path(record.id)
        draft = path.with_suffix(".new")
        try:
            # Somebody may have deleted it meanwhile.
            self._directory.mkdir(exist_ok=True, mode=0o700)
            draft.write_bytes(msgspec.json.encode(record))
            draft.replace(path)
        except OSError as exc:
            _delete(draft)
            raise unwritable(exc, record.name) from exc

    def forget(self, object_id: str) -> None:
        """Delete a record. Idempotent."""
        _delete(self._path(object_id))

    def load(self) -> Iterator[Record]:
        """Yield every record that can be read."""
        for path in sorted(self._directory.glob("*.json")):
            with contextlib.suppress(OSError, ValueError):  # a foreign file
                yield msgspec.json.decode(path.read_bytes(), type=Record)

    def _path(self, object_id: str) -> Path:
        return self._directory / f"{object_id}.json"


def _delete(path: Path) -> None:
    """Delete a file, if it is there; something else may be in the place of its directory."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def unwritable(exc: OSError, name: str) -> DiskFull | StageRefused:
    """Return the error for a part of an object that could not be written."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk of the state directory has no space left for {name}")
    reason = exc.strerror
    if isinstance(exc, (FileExistsError, NotADirectoryError)):
        reason = "it, or `process` in it, is no longer a directory; move that away"
    return StageRefused(f"the state directory cannot be written for {name}: {reason}")


def living_process(record: Record, home: Path) -> psutil.Process | None:
    """Return the process of a record, if it lives and is certainly the same one.

    The working directory, whose name is random, identifies it where the start time cannot: when the clock has
    been set since (`create_time` follows it), and when a daemon was killed between starting a process and
    writing down its id. A directory of the same name elsewhere belongs to the state directory that these
    records were copied from, and its process is not ours.
    """
    if not record.started:
        return None
    if record.pid is None:
        return _process_in(home)
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(record.pid)
        works_in = Path(process.cwd())
        if works_in.name == home.name:
            is_it = _same_directory(works_in, home)
        else:  # it has gone elsewhere
            is_it = process.create_time() == record.pid_time
        return process if is_it and _runs(process) else None
    return None


def _same_directory(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def _process_in(home: Path) -> psutil.Process | None:
    inside = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(home) and _runs(p)]
    return min(inside, key=lambda process: process.pid, default=None)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
