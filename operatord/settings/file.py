# SPDX-License-Identifier: MIT
"""Reads settings: from a file, or from the value of a variable."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from .yaml_text import NotYaml, Unusable, parse

MOST_BYTES = 256 * 1024
"""Largest settings file in bytes. Devices may be endless; and parsing this much takes 3 s, in which a serving
daemon answers 5 ms later than usual (50 ms at most, on two cores)."""


def read(path: Path, *, again: bool) -> Any:
    """Return what a file holds. Raises `Unusable`.

    Reading a pipe, such as a shell's ``<(…)``, blocks until it ends. With ``again``, in a serving daemon, a
    pipe is refused: it is used up, or would block.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (os.O_NONBLOCK if again else 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if again and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unusable(
                    "the settings can be read again from a regular file only, and they are not in one; "
                    "restart instead"
                )
            data = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise Unusable(f"the settings file cannot be read: {exc.strerror}") from exc
    if len(data) > MOST_BYTES:
        raise Unusable(
            f"the settings file is larger than {MOST_BYTES // 1024} KiB; write once what pipelines have in "
            "common, under an anchor (&name), and merge it (<<: *name)"
        )
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise Unusable(f"the settings file is not UTF-8: line {line}") from exc
    except NotYaml as exc:
        raise Unusable(f"the settings file is not YAML: {exc}") from exc


def value(text: str) -> Any:
    """Return what a variable holds. Raises `Unusable`."""
    try:
        return parse(text)
    except NotYaml as exc:
        raise Unusable(f"{exc}; put the value in quotes") from exc
