# SPDX-License-Identifier: MIT
"""What a process that was forked must not share with the one that it comes from: connections, and locks.

The lines of both would go out on one connection, and each would read answers to the other, or half of the
frames. A lock that a thread of the parent held in that moment is never released in the child, which has no
such thread.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

INHERITED = "this connection is the parent process's: one that was forked has to make its own"
"""What is said of a connection that a process was forked with."""


class Forkable(Protocol):
    """What has to do with a connection."""

    def after_fork(self) -> None:
        """In a child process, have nothing to do with the parent's connection, which goes on."""
        ...


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
_left_alone: list[object] = []


def note(thing: Forkable) -> None:
    """Have ``thing`` told in each process that is forked from now on."""
    _known.add(thing)


def leave_alone(thing: object) -> None:
    """Never have ``thing``, which is the parent's, cleaned up in this process.

    Event loops share what they wait with: to close it here would have the parent's no more hear of it.
    """
    _left_alone.append(thing)


def _tell() -> None:
    for thing in list(_known):
        thing.after_fork()


os.register_at_fork(after_in_child=_tell)
