# SPDX-License-Identifier: MIT
"""The directory that one daemon at a time has to itself, and the name under which it is known for good."""

from __future__ import annotations

import fcntl
import uuid
from pathlib import Path
from typing import IO


class StateDirBusy(Exception):
    """Another daemon uses the state directory."""


class StateDir:
    """A directory of this daemon alone, and the name that outlives a restart."""

    def __init__(self, path: Path) -> None:
        """Create it when needed and lock it. Raises `StateDirBusy`, `OSError`."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._lock: IO[str] = (path / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self._lock.close()
            raise StateDirBusy(
                f"another operatord uses {path}; give this one a --state-dir of its own"
            ) from exc
        self.instance = self._read_instance()

    def _read_instance(self) -> str:
        file = self.path / "instance"
        if file.exists() and (name := file.read_text("ascii").strip()):
            return name
        name = uuid.uuid4().hex[:12]
        file.write_text(name + "\n", "ascii")
        return name

    def close(self) -> None:
        """Let another daemon have it. Idempotent."""
        self._lock.close()
