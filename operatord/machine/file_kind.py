# SPDX-License-Identifier: MIT
"""What is at a path, in words, for messages that something else should be there."""

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
    """Return what is at a path, such as "a directory"; None if nothing is, or it cannot be seen."""
    with contextlib.suppress(OSError):
        kind = _WORDS.get(stat.S_IFMT(path.lstat().st_mode), "something strange")
        return NOWHERE if kind == "a link" and not path.exists() else kind
    return None


def no_file(path: Path) -> str | None:
    """Return what is at a path that should be a file and is not; None for a file or for nothing. A link does
    not count as a file: files are replaced by renaming, which would replace the link.
    """
    kind = kind_of(path)
    return None if kind == "a file" else kind
