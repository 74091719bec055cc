# SPDX-License-Identifier: MIT
"""What a reader of events needs to continue on another connection, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operatord_client.errors import CallTimeout, ConnectionLost, DaemonUnreachable, WireError
from operatord_client.notices import Event

FIRST_PAUSE = 0.1
"""Seconds before the first attempt to reach a daemon that went away; then twice as many each time …"""
LONGEST_PAUSE = 5.0
"""… up to these."""

AWAY = (ConnectionLost, DaemonUnreachable, CallTimeout)
"""Errors that mean that the daemon is not there, or not yet."""


class Bookmark:
    """How far the events have been read, and how long to wait before the next attempt to read on."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        """Begin where the ``params`` of a subscription begin."""
        self._params = dict(params)
        self._pause = FIRST_PAUSE

    def params(self) -> dict[str, Any]:
        """Return the params of a subscription to what has not been read yet."""
        return dict(self._params)

    def subscribed(self, seq: int) -> None:
        """Note that there is a subscription, made when ``seq`` was the newest event."""
        self._params.setdefault("since", seq)
        self._pause = FIRST_PAUSE

    def read(self, event: Event) -> Event:
        """Note that an event, or what marks a gap, has been read; return it."""
        last = event.lost[1] if event.lost is not None else event.seq
        if last is not None:
            self._params["since"] = last
        return event

    def pause(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause


def check_away(error: Exception) -> None:
    """Raise ``error`` unless it only means that the daemon is away, or has no room for us just now."""
    if isinstance(error, WireError) and error.retryable:
        return
    if not isinstance(error, AWAY):
        raise error
