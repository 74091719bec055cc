# SPDX-License-Identifier: MIT
"""What stands at a path, in words, where something else is to be."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

_WORDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
NOWHERE = "a link that leads nowhere"


def kind_of(path: Path) -> str | None:
    """Return what stands at a path, such as "a directory"; None if nothing does, or nobody can tell."""
    with contextlib.suppress(OSError):
        kind = _WORDS.get(stat.S_IFMT(path.lstat().st_mode), "something strange")
        return NOWHERE if kind == "a link" and not path.exists() else kind
    return None


def no_file(path: Path) -> str | None:
    """Return what stands at a path where a file is to be, and is none; None for a file and for nothing.

    A link is none: what outlives the daemon is replaced by renaming, which would cut it off.
    """
    kind = kind_of(path)
    return None if kind == "a file" else kind
