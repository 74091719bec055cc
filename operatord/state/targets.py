# SPDX-License-Identifier: MIT
"""Files that people name to be written: none of them is one that a daemon or somebody else needs."""

from __future__ import annotations

from pathlib import Path


class CannotDo(Exception):
    """Nothing was changed; the text says why."""


def require_foreign(target: Path, state_dir: Path, settings: Path | None) -> None:
    """Raise `CannotDo` for a file in the state directory and for that of the settings, `OSError`."""
    if _is_below(target.resolve(), state_dir):
        raise CannotDo(
            f"{target} is in the state directory {state_dir}, where the daemon has its own files: name a "
            "file elsewhere"
        )
    if settings is not None and settings.exists() and target.exists() and target.samefile(settings):
        raise CannotDo(f"{target} has the settings, and is left as it is: name another file")


def require_kind(target: Path, begins: bytes, what: str) -> None:
    """Raise `CannotDo` for a file that is there, has something in it and begins otherwise, `OSError`."""
    if target.is_file() and beginning(target, len(begins)) not in (b"", begins):
        raise CannotDo(
            f"{target} is there already and is not a {what}, so it is left as it is: name another file"
        )


def beginning(file: Path, size: int) -> bytes:
    """Return the first bytes of a file. Raises `OSError`."""
    with file.open("rb") as opened:
        return opened.read(size)


def _is_below(path: Path, directory: Path) -> bool:
    """Tell whether a resolved path leads into a directory, by whichever name. Raises `OSError`."""
    return any(each.exists() and each.samefile(directory) for each in path.parents)
