# SPDX-License-Identifier: MIT
"""The phases of a session, and the only ways from one to the next.

    queued ──► starting ──► running ──► stopping ──► ended
      │            └────────────────────────┘▲         ▲
      └────────────────────────────────────────────────┘

A session is created ``queued``, if only for an instant. ``starting`` creates objects on the engine, so
it leaves through ``stopping``, which removes them, whether it came to ``running`` or not. From ``queued``
there is nothing to remove. ``ended`` is final: everything of the session is gone, the facts remain.
"""

from __future__ import annotations

from operatord_protocol.messages import Phase

TRANSITIONS: dict[Phase, tuple[Phase, ...]] = {
    "queued": ("starting", "ended"),
    "starting": ("running", "stopping"),
    "running": ("stopping",),
    "stopping": ("ended",),
    "ended": (),
}

_ORDER: dict[Phase, int] = {phase: index for index, phase in enumerate(TRANSITIONS)}


class IllegalTransition(Exception):
    """A session was to change in a way that the table does not have: a defect of the daemon."""


def advance(current: Phase, to: Phase) -> Phase:
    """Return ``to`` when the table has the way there. Raises `IllegalTransition`."""
    if to not in TRANSITIONS[current]:
        raise IllegalTransition(f"{current} → {to}")
    return to


def reached(current: Phase, wanted: Phase) -> bool:
    """Tell whether a session that is ``current`` has been, or can no longer be, ``wanted``."""
    return _ORDER[current] >= _ORDER[wanted]
