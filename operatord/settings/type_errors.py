# SPDX-License-Identifier: MIT
"""Messages about settings of the wrong type: the path, and what is expected there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from operatord.core.units import custom
from operatord_protocol.checking import explain

from .config import Config

_UNQUOTED_TEXT = re.compile(r"expected str(?: \| null)?, got (?:bool|int|float)\Z")
_EXPECTED = {
    "gpus": "expected auto or a list such as [{id: GPU-1a2b3c4d, memory: 8GiB}]",
    "listen": "expected HOST:PORT such as 127.0.0.1:7733",
    "ports": "expected a range such as 20000-20999",
}
"""Messages for settings whose type says too little."""


def problem_of(exc: msgspec.ValidationError) -> tuple[str, str]:
    path, what = explain(exc, Config, root="")
    path = path.lstrip(".")
    if _UNQUOTED_TEXT.match(what):
        what += ": text, in quotes"
    return path, _EXPECTED.get(path, what)


def named(path: str, data: dict[str, Any]) -> str:
    """Return ``path`` with names for each ``[...]``, which is how msgspec writes any name in a mapping.

    The name is the first whose member, left alone in its mapping, is refused with the same path.
    """
    head, *rest = path.split("[...]")
    names = head.split(".")
    for tail in rest:
        inner = data
        for name in names:
            inner = inner[name]
        alone = (only for name in inner if _refused_at(only := _only(data, names, name)) == path)
        data = next(alone, {})
        if not data:
            return path
        inner = data
        for name in names:
            inner = inner[name]
        names += [*inner, *tail.split(".")[1:]]
    return ".".join(map(str, names))


def _only(data: dict[str, Any], names: Sequence[str], name: str) -> dict[str, Any]:
    """Return ``data`` with nothing but ``name`` in the mapping that ``names`` lead to."""
    if not names:
        return {name: data[name]}
    return {**data, names[0]: _only(data[names[0]], names[1:], name)}


def _refused_at(data: dict[str, Any]) -> str | None:
    try:
        msgspec.convert(data, Config, dec_hook=custom)
    except msgspec.ValidationError as exc:
        return problem_of(exc)[0]
    return None
