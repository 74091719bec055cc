# SPDX-License-Identifier: MIT
"""What a start and a recording take, as keywords, and what a recording comes to. The names of a start are
those on the wire.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Literal, NamedTuple, TypedDict

TOKEN_VARIABLE = "OPERATORD_TOKEN"  # noqa: S105 - the name of one, not a token
"""Environment variable that is asked when no token is given."""


class TtlLease(TypedDict):
    """A lease that ends unless it is extended."""

    ttl: float
    """Seconds."""


class StartOptions(TypedDict, total=False):
    """What `start` and `plan` take; what is left out, the daemon decides."""

    plain_stream: bool
    """True: the pipeline ``stream``; False: ``segmented``."""
    pipeline: str
    """Any configured pipeline instead."""
    count: int
    """Frames to send, at least 1."""
    probe: str
    """A registered probe; without one an emulator is started."""
    format: Literal["json", "y4m"]
    request_key: str
    """The same key from the same owner gives the same session."""
    priority: int
    """-10 to 10, higher goes first."""
    owner: str
    lease: Literal["pinned", "connection"] | TtlLease
    """How it is kept alive; what `start` does without one is in `leased`."""
    on_shortage: Literal["queue", "refuse", "degrade"]
    deadline: float
    """Seconds until it must be ready."""
    wait: Literal["ready", "accepted"]
    env: Mapping[str, Mapping[str, str | int | float | bool]]
    """By stage, then by variable."""


RecordPath = str | os.PathLike[str] | IO[bytes]
"""Where a recording goes: a file by its name, or one that is open."""


class RecordOptions(TypedDict, total=False):
    """What `record` takes; what is left out is None, or False."""

    format: Literal["raw", "y4m"] | None
    """None: by the end of the file's name."""
    frames: int | None
    """At most so many; None: all."""
    seconds: float | None
    """At most for so long, from when the stream is connected; None: to its end."""
    overwrite: bool
    """Whether a file that is there already may go."""
    fps: float | None
    """Frames per second that players are told (``y4m``) where the stream says none; None: 30."""


class Recorded(NamedTuple):
    """What has been written of a stream so far."""

    frames: int
    dropped: int
    """Frames that are missing between the first and the last one, by their numbers."""
    bytes: int
    """In the file."""
    seconds: float
    """Since the stream was connected."""
    expected: int | None
    """Frames that the stream has in all, where that is known."""
    ended: bool
    """Whether the stream came to its end; else the recording was stopped before."""
    assumed_fps: float | None = None
    """Frames per second that players are told although the stream says none; else None."""


def leased(options: StartOptions) -> StartOptions:
    """Return ``options`` with the lease of a client's own session: that of its connection.

    So no session outlives a program that asked for it and was killed. An explicit lease is kept; and a
    request with a key may be sent again on another connection, so it gets none.
    """
    if "lease" in options or "request_key" in options:
        return options
    return {**options, "lease": "connection"}


def default_token() -> str | None:
    """Return the token of ``$OPERATORD_TOKEN``; None if there is none."""
    return os.environ.get(TOKEN_VARIABLE) or None
