# SPDX-License-Identifier: MIT
"""Which files and devices of the engine's machine probes may be: entries of ``probes.allow``.

Paths are compared as text. A link within what is allowed leads nowhere else in a container, which is given
nothing but the allowed path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from operatord.core.stage_forms import in_container, on_machine

from .url import LOCAL


class Place(NamedTuple):
    """One entry."""

    scheme: str
    path: str
    """A file, a folder with all below it, or a device; with ``*`` at its end, all devices that begin so."""


class LocalPlaces:
    """The files and devices that may be read."""

    def __init__(self, entries: Sequence[Place] = ()) -> None:
        """Allow these."""
        self._entries = entries

    def place_of(self, scheme: str, path: str) -> str | None:
        """Return what has to be there for a stage that reads ``path``: a device, or the allowed file or
        folder; None if it is not allowed."""
        for each in self._entries:
            if each.scheme == scheme and _is_in(path, each):
                return path if scheme == "v4l2" else each.path
        return None


def _is_in(path: str, place: Place) -> bool:
    if place.path.endswith("*"):
        prefix = place.path[:-1]
        return path.startswith(prefix) and "/" not in path[len(prefix) :]
    below = place.scheme == "file" and path.startswith(f"{place.path}/")
    return below or path == place.path


def is_local(entry: str) -> bool:
    """Tell whether an entry of ``probes.allow`` is meant to be a path."""
    return entry.partition(":")[0] in LOCAL


def parse_place(entry: str) -> Place:
    """Return what an entry such as ``file:/srv/recordings`` allows. Raises `ValueError` with a sentence."""
    scheme, _, path = entry.partition(":")
    if scheme == "file":
        if "*" in path:
            raise ValueError(f"{path} has a *; a folder allows all that is below it")
        return Place(scheme, _for_a_stage(path))
    if not path.startswith("/dev/") or "*" in path[:-1]:
        raise ValueError(
            f"expected a device such as v4l2:/dev/video0, or v4l2:/dev/video* for several, got {entry!r}"
        )
    return Place(scheme, _for_a_stage(path))


def _for_a_stage(path: str) -> str:
    """Return a path of the machine that a stage can have at the same place. Raises `ValueError`."""
    on_machine(path)
    try:
        return in_container(path)
    except ValueError as exc:
        raise ValueError(f"{path} cannot be given to a stage; allow something else") from exc
