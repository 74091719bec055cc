# SPDX-License-Identifier: MIT
"""The engines that can be chosen, and how they differ before they are connected to.

What an engine that answers can do is in its `Capabilities`. Nothing else tells engines apart by their names.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

EngineChoice = Literal["auto", "docker", "process"]


class EngineKind(NamedTuple):
    """One of the choices of the setting ``engine``."""

    is_local: bool
    """Stages are processes of this machine, on loopback addresses of their own; no engine has to be found."""
    is_named: bool
    """This engine is used and no other, whatever else is found."""


KINDS: dict[str, EngineKind] = {
    "auto": EngineKind(is_local=False, is_named=False),
    "docker": EngineKind(is_local=False, is_named=True),
    "process": EngineKind(is_local=True, is_named=True),
}


def is_local(name: str) -> bool:
    """Tell whether the stages of an engine are processes of this machine; all others have containers."""
    kind = KINDS.get(name)
    return kind is not None and kind.is_local
