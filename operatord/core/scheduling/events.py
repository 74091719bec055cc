# SPDX-License-Identifier: MIT
"""What the scheduler is told: everything that may change who can start.

Moments are seconds on the caller's clock; amounts are those of `resources`.
"""

from __future__ import annotations

from typing import NamedTuple

from operatord.core.resources import Vector

from .ledger import Ask, Settings
from .waiting import Shape


class Submitted(NamedTuple):
    """A request came in."""

    ask: Ask


class Running(NamedTuple):
    """A session's stream is there; ``end`` is when it is expected to be over, if that is known."""

    session_id: str
    end: float | None


class Reserved(NamedTuple):
    """A slot is to be prepared: a session that nobody has asked for yet."""

    session_id: str
    need: Vector


class Claimed(NamedTuple):
    """A request came in, and there is a slot that would do; its session id is the slot's."""

    ask: Ask


class Restored(NamedTuple):
    """A session of an earlier life of the daemon lives on, with all that it had."""

    session_id: str
    owner: str
    need: Vector
    gpus: tuple[str, ...] = ()
    extra: Vector | None = None
    """What of ``need`` was attached later."""
    end: float | None = None
    """When it is expected to be over, if that is known."""
    lacks: Shape | None = None
    """What it still waits for, being degraded."""
    priority: int = 0


class Released(NamedTuple):
    """Everything of a session is gone from the engine: what it held is free."""

    session_id: str


class Attached(NamedTuple):
    """The stage that was to be attached is there, and uses what it needs."""

    session_id: str


class Detached(NamedTuple):
    """The stage that was to be attached is gone again; the session goes on without."""

    session_id: str


class Withdrawn(NamedTuple):
    """A queued request, or the missing part of a degraded session, is no longer wanted."""

    session_id: str


class Tick(NamedTuple):
    """Time has passed: deadlines may have, too."""


class Measured(NamedTuple):
    """The machine was looked at."""

    free: Vector | None
    """What is free, less what is kept back; `resources.UNLIMITED` where nothing is measured."""
    pressure_kind: str = "none"
    pressure: str = ""
    """Why nothing more may start, in a sentence; empty if it may."""


class Changed(NamedTuple):
    """The settings or the draining are different now."""

    settings: Settings
    draining: bool


Event = (
    Submitted
    | Reserved
    | Claimed
    | Restored
    | Running
    | Released
    | Attached
    | Detached
    | Withdrawn
    | Tick
    | Measured
    | Changed
)
