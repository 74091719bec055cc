# SPDX-License-Identifier: MIT
"""What the daemon does about each signal that would end it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from .machine.clock import Clock
from .stderr import finish

log = logging.getLogger(__name__)

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
MEANINGLESS = (
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO),
    *(signal.SIGXCPU, signal.SIGPWR, signal.SIGSTKFLT),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)  # fmt: skip
"""Signals that end a process by default, which no daemon wants. They are handled rather than ignored, since
child processes would inherit the ignoring."""
SAME_WISH = 1.0
"""Seconds in which a repeated signal means the same; later it means: exit at once."""


class Signals:
    """Handles them in the running event loop."""

    def __init__(self, clock: Clock, stop: asyncio.Event, reload: Callable[[], None]) -> None:
        """Set ``stop`` when the daemon is to end, and call ``reload`` at SIGHUP."""
        self._clock = clock
        self._stop = stop
        self._reload = reload
        self._came: dict[signal.Signals, float] = {}
        """When each that ends it first came, on the monotonic clock."""
        self._passed_over: set[int] = set()
        """Those that mean nothing here, and were told."""

    def handle(self) -> None:
        """Handle them from now on. Signals other than those for stopping and reloading do nothing."""
        loop = asyncio.get_running_loop()
        for number in STOP:
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        for other in MEANINGLESS:
            loop.add_signal_handler(other, self._pass_over, other)

    def _end(self, number: signal.Signals) -> None:
        # The same signal again means impatience; a different one may be the first, passed on. A program is
        # often signalled twice, once itself and once as a member of a process group.
        now = self._clock.now()
        first = self._came.setdefault(number, now)
        if now - first >= SAME_WISH:
            log.warning("%s again: leaving at once", number.name)
            finish()
            os._exit(1)
        if not self._stop.is_set():
            log.info("%s: stopping", number.name)
        self._stop.set()

    def _pass_over(self, number: int) -> None:
        if number not in self._passed_over:
            self._passed_over.add(number)
            is_named = number <= signal.SIGRTMIN
            name = signal.Signals(number).name if is_named else f"signal {number}"
            log.warning("%s means nothing to operatord and is ignored, now and later", name)
