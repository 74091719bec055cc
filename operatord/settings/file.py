# SPDX-License-Identifier: MIT
"""Reads settings: from a file, or from the value of a variable; and files of variables for stages."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Any

from operatord.core.stage_forms import variables
from operatord_protocol.encodings import foreign_encoding

from .yaml_text import NotYaml, Unusable, parse

MOST_BYTES = 256 * 1024
"""Largest settings file in bytes. Devices may be endless; and parsing this much takes 3 s, in which a serving
daemon answers 5 ms later than usual (50 ms at most, on two cores)."""


def read(path: Path, *, again: bool) -> Any:
    """Return what a file holds. Raises `Unusable`.

    Reading a pipe, such as a shell's ``<(…)``, blocks until it ends. With ``again``, in a serving daemon, a
    pipe is refused: it is used up, or would block.
    """
    try:
        data = _bytes_of(path, again=again)
    except OSError as exc:
        raise Unusable(f"the settings file cannot be read: {exc.strerror}") from exc
    if data is None:
        raise Unusable(
            "the settings can be read again from a regular file only, and they are not in one; "
            "restart instead"
        )
    if len(data) > MOST_BYTES:
        raise Unusable(
            f"the settings file is larger than {MOST_BYTES // 1024} KiB; write once what pipelines have in "
            "common, under an anchor (&name), and merge it (<<: *name)"
        )
    try:
        return parse(_text("the settings file", data))
    except NotYaml as exc:
        raise Unusable(f"the settings file is not YAML: {exc}") from exc


def env_file(path: Path) -> dict[str, str]:
    """Return the variables in a file for stages. Raises `Unusable`, without the file's path or content."""
    try:
        data = _bytes_of(path, again=True)
        if data is None or len(data) > MOST_BYTES:
            raise Unusable(f"expected a regular file of at most {MOST_BYTES // 1024} KiB")
        return variables(_text("the file", data))
    except OSError as exc:
        raise Unusable(f"the file cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise Unusable(str(exc)) from exc


def _text(what: str, data: bytes) -> str:
    """Return ``data`` as text, without the mark that some editors put before it. Raises `Unusable`."""
    data = data.removeprefix(codecs.BOM_UTF8)
    if encoding := foreign_encoding(data):
        raise Unusable(f"{what} is {encoding}; save it as UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise Unusable(f"{what} is not UTF-8: line {line}") from exc


def _bytes_of(path: Path, *, again: bool) -> bytes | None:
    """Return a file's content, or a byte too much of it; None, with ``again``, if it is not regular."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (os.O_NONBLOCK if again else 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if again and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        return file.read(MOST_BYTES + 1)


def value(text: str) -> Any:
    """Return what a variable holds. Raises `Unusable`."""
    try:
        return parse(text)
    except NotYaml as exc:
        raise Unusable(f"{exc}; put the value in quotes") from exc
