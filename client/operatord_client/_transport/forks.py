# SPDX-License-Identifier: MIT
"""What a forked process must not share with its parent: connections, and locks.

The lines of both would go out on one connection, and each would read answers to the other, or half of the
frames. A lock that a thread of the parent held in that moment is never released in the child, which has no
such thread.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

INHERITED = "this connection belongs to the parent process: after a fork, make a new one"
"""The error message for a connection that was opened before a fork."""


class Forkable(Protocol):
    """What has to do with a connection."""

    def after_fork(self) -> None:
        """In a child process, let go of the parent's connection, which goes on."""
        ...


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
_left_alone: list[object] = []


def note(thing: Forkable) -> None:
    """Have ``thing`` notified in each process that is forked from now on."""
    _known.add(thing)


def leave_alone(thing: object) -> None:
    """Never clean up ``thing``, which is the parent's, in this process. Event loops share their epoll
    descriptor after a fork: closing a socket here would unregister the parent's.
    """
    _left_alone.append(thing)


def _tell() -> None:
    for thing in list(_known):
        thing.after_fork()


os.register_at_fork(after_in_child=_tell)
