# SPDX-License-Identifier: MIT
"""What is said of a check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from .seen import Seen
from .subject import Subject

State = Literal["holds", "does not hold", "cannot be told"]


class Verdict(msgspec.Struct, frozen=True):
    """Whether a check holds, and what was seen."""

    state: State
    seen: str
    """A phrase."""
    advice: str = ""
    """What to do, where that is more than what the check says in general."""
    minor: bool = False
    """It does not hold, but sessions work nevertheless, even if the check is a required one."""


class Evidence(msgspec.Struct, frozen=True):
    """All trials, by name, and whose they were."""

    subject: Subject
    trials: Mapping[str, Seen]
    contained: bool = True
    """Whether the stage ran in containers, with limits."""
    grace: float = 2.0
    """Seconds between SIGTERM and SIGKILL."""

    def trial(self, name: str) -> Seen:
        """Return a trial; one in which nothing was seen if it was not made."""
        return self.trials.get(name, Seen())


def holds(seen: str) -> Verdict:
    return Verdict("holds", seen)


def broken(seen: str, advice: str = "", *, minor: bool = False) -> Verdict:
    return Verdict("does not hold", seen, advice, minor)


def unknown(seen: str, advice: str = "") -> Verdict:
    return Verdict("cannot be told", seen, advice)
