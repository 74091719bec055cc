# SPDX-License-Identifier: MIT
"""On which engine the sessions of an earlier life of the daemon are, when it begins with another one.

On that other engine none of their stages is to be found, so they would be said to have failed while they go
on, and would be removed as nobody's when the first engine is there again.
"""

from __future__ import annotations

from operatord.engines import base
from operatord.store.journal import Journal

FACT = "engine"
"""The journal's name for the engine on which sessions outlive the daemon; empty if they do not."""


def require(journal: Journal, name: str) -> None:
    """Raise `base.NotOurs` if sessions live on another engine than the one called ``name``."""
    former = (journal.fact(FACT) or b"").decode()
    if former in ("", name):
        return
    if living := [row.id for row in journal.living() if row.phase != "queued"]:
        which = ", ".join(living[:3]) + (", …" if len(living) > 3 else "")
        raise base.NotOurs(
            f"sessions of this state directory ({which}) may still run on the engine "
            f"{former}, and this one is {name}: start with `--engine {former}` and see that it is reached, "
            "or, if it is gone for good, begin with another state_dir"
        )


def note(journal: Journal, engine: base.Engine) -> None:
    """Remember the engine, before anything is made on it."""
    journal.note_fact(FACT, engine.name.encode() if engine.capabilities.adopts else b"")
