# SPDX-License-Identifier: MIT
"""What the scheduler answers: the caller does it, in this order. The books know of it already."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .why import Why

RefusalType = Literal["no_capacity", "queue_full", "deadline_exceeded", "draining", "never_fits"]


class Start(NamedTuple):
    """Start it: what it needs is taken already."""

    session_id: str
    gpus: tuple[str, ...] = ()
    """Ids of the devices it has, in the order in which they were asked for."""
    degraded: bool = False
    """Plain for now; `Attach` follows when there is room for the rest."""


class Attach(NamedTuple):
    """Start the rest of a degraded session: its resources are already taken."""

    session_id: str
    gpus: tuple[str, ...] = ()


class GiveUp(NamedTuple):
    """Remove a slot: somebody needs the room."""

    session_id: str


class Enqueue(NamedTuple):
    """It waits."""

    session_id: str


class Refuse(NamedTuple):
    """It will not be started."""

    session_id: str
    type: RefusalType
    why: Why


Action = Start | Attach | GiveUp | Enqueue | Refuse
