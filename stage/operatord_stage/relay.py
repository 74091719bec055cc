# SPDX-License-Identifier: MIT
"""Pass one stream on, from the upstream to all who consume it."""

from __future__ import annotations

import math
import selectors
import time

from operatord_stage.audience import Audience
from operatord_stage.backlog import Backlog
from operatord_stage.connections import Connections
from operatord_stage.reports import Reports
from operatord_stage.stage import NOT_DELIVERED, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from operatord_stage.peer import Peer
    from operatord_stage.source import Readable, Render, Upstream
    from operatord_stage.terms import Terms

END_POLL = 0.01
"""Seconds between looks at consumers that have been sent everything."""


class Relay:
    """Pass the source's frames, rendered, to the consumers; one thread, one selector.

    Until there is a consumer, only one block with a whole frame is read from the upstream. Unless the
    policy is live, no more is read while a consumer that all wait for has yet to take what was read: TCP
    carries the back-pressure up to the probe, and this process never has more than one block.

    If frames are dropped while nobody consumes, the upstream is always read and no frames are kept. So
    does an attached stage: an upstream that knows nothing of attaching never waits for it.
    """

    def __init__(
        self, source: Upstream, listener: socket.socket, terms: Terms, render: Render
    ) -> None:
        self._source, self._terms = source, terms
        self._selector = selectors.DefaultSelector()
        self._backlog = Backlog(source, terms, render)
        connections = Connections(listener, self._selector, terms, self._backlog)
        self._audience = Audience(connections, terms, self._backlog)
        self.reports = Reports(terms, self._audience, self._backlog)
        self._waits_for: Readable | None = None  # what the selector waits for of the upstream

    def run(self, last_words: list[Callable[[], None]]) -> None:
        """Serve until all consumers have the end; report then, and before a signal ends the process.

        Raises:
            Fault: the upstream broke off, or the last consumer left too early.
        """
        last_words.insert(0, self.reports.report)
        try:
            self._serve()
        finally:
            self.reports.report()

    def _serve(self) -> None:
        self._read_or_rest(time.monotonic())
        while not (self._audience.ended and not self._audience.consumers()):
            for key, ready in self._selector.select(self._patience()):
                key.data(ready)
            now = time.monotonic()
            self._audience.handle_due(now)
            self._read_or_rest(now)
            if now >= self.reports.due and self.reports.has_news():
                self._audience.disconnect_lost(now)
                self.reports.report()
        if self._audience.all_left_early and not (self._terms.live or self._terms.takes_all):
            raise Fault(NOT_DELIVERED, "the last consumer left before it had the stream to its end")

    def _patience(self) -> float | None:
        """Return how many seconds the selector may wait; None for as long as it takes."""
        if self._audience.ended:
            return END_POLL
        consumers = self._audience.consumers()
        times = [self._audience.next_due()]
        if not (self._waits_for or consumers):
            times.append(self._terms.alone_at)
        if self._backlog.keeping and self._backlog.is_full and consumers:
            times.append(0.0)  # it is to be noticed that there is nothing to wait for
        if self.reports.has_news():
            times.append(self.reports.due)
        first = min(times)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _read_or_rest(self, now: float) -> None:
        """Pass frames on and read more while there are receivers; else read until there is a frame."""
        if self._audience.ended:
            return
        alone = self._goes_on_alone(now)
        self._decide_keeping(alone, now)
        receivers = self._audience.consumers() + self._audience.guests()
        if self._terms.drops:  # and so flows anyhow
            receivers += self._audience.spectators()
        flows = bool(receivers) or alone or self._terms.drops
        if flows:
            self._pass_on(receivers)
        else:
            self._backlog.keep_first()
        if self._backlog.is_over and (self._audience.consumers() or alone):
            self._finish()
        elif flows:
            self._read_if(not self._must_wait(now))
        else:
            self._read_if(not self._backlog.has_first)

    def _goes_on_alone(self, now: float) -> bool:
        """Tell whether frames are passed on even without a consumer."""
        if self._terms.attached:
            self._source.ask_for_frames(self._terms.takes_all or bool(self._audience.consumers()))
        own = self._terms.takes_all and self._audience.is_open()
        return (
            own or (self._backlog.released_any and self._terms.live) or now >= self._terms.alone_at
        )

    def _decide_keeping(self, alone: bool, now: float) -> None:
        """Decide whether frames that are sent are kept: no longer once some peer is sure to be a consumer.

        Then all silent guests become consumers, too. No peer is doubted once no more can be kept.
        """
        if self._backlog.is_full:
            for peer in self._audience.consumers():
                peer.sure_at = now
        kept = self._backlog.keeping
        unneeded = self._terms.drops or alone or self._audience.has_sure_consumer(now)
        self._backlog.keeping = not unneeded
        if kept and not (self._backlog.keeping or self._terms.attached):
            self._audience.make_guests_consumers()

    def _pass_on(self, receivers: list[Peer]) -> None:
        """Send the receivers the frames that are kept, and those that are fresh."""
        self._audience.send_kept(receivers)
        if not self._backlog.keeping:
            self._audience.release_all()
        if self._terms.drops and not receivers:
            # What an attached stage dropped would be old once somebody comes.
            self._backlog.drop_fresh(keep_newest=not self._terms.attached)
        elif self._backlog.keeping:
            self._backlog.keep_fresh()
            self._audience.send_kept(receivers)
        else:
            frames = self._backlog.pass_fresh(received=bool(receivers))
            self._audience.send([*{*receivers, *self._audience.spectators()}], frames)

    def _must_wait(self, now: float) -> bool:
        """Tell whether receivers must take frames before more are read."""
        behind = any(peer.queue and not peer.live for peer in self._audience.guests())
        full = self._backlog.keeping and self._backlog.is_full
        return behind or full or bool(self._audience.waited_for(now)) or self._backlog.is_over

    def _read_if(self, wanted: bool) -> None:
        """Have the selector wait for the upstream, or no longer. A source may have become another socket."""
        waits_for = self._source.sock if wanted else None
        if self._waits_for is not waits_for:
            if self._waits_for is not None:
                self._selector.unregister(self._waits_for)
            if waits_for is not None:
                self._selector.register(waits_for, selectors.EVENT_READ, self._read)
            self._waits_for = waits_for

    def _read(self, _ready: int) -> None:
        """Read a block from the upstream."""
        if self._terms.policy == "fastest":
            self._audience.keep_newest()
        self._backlog.read()

    def _finish(self) -> None:
        """Leave the upstream, and send the end."""
        self._read_if(False)
        self._source.sock.close()
        self._audience.end()
