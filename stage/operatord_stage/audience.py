# SPDX-License-Identifier: MIT
"""Which peers are consumers, which of them the stream waits for, and when a silent guest becomes one."""

from __future__ import annotations

import math
import sys

from operatord_stage.connections import QUIET
from operatord_stage.peer import LOST_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from operatord_stage.backlog import Backlog
    from operatord_stage.connections import Connections
    from operatord_stage.peer import Peer
    from operatord_stage.source import Buffer
    from operatord_stage.terms import Terms

KNOCKS = 4
"""First bytes that are sent singly to a half-closed guest: b'{"ty' or b"FRAM"."""


class Audience:
    """The peers by their roles.

    A silent peer may yet say that it is only a check. It is a guest until then: it is sent frames at
    once, and these frames are kept. If it turns out to be a check, or leaves as a guest, the next peer
    gets the same frames. They are released once some peer is sure to be a consumer; then all guests
    that were sent frames become consumers, too. If the daemon checks first, no peer is sent a frame
    before that check.
    """

    def __init__(self, connections: Connections, terms: Terms, backlog: Backlog) -> None:
        self._connections, self._terms, self._backlog = connections, terms, backlog

    @property
    def ended(self) -> bool:
        """Whether the end was sent."""
        return self._connections.ended

    @property
    def all_left_early(self) -> bool:
        """Whether consumers left before they had the end, and none has it."""
        return self._connections.left_early > 0 and not self._connections.served

    @property
    def dropped(self) -> int:
        """How many frames were dropped, for all peers that are or were connected, but for spectators."""
        counting = [peer for peer in self._connections.peers if peer.counts]
        return self._connections.dropped + sum(peer.dropped for peer in counting)

    def is_open(self) -> bool:
        """Tell whether peers may be consumers: not before the daemon's check, if one is to come."""
        return self._connections.checked or not self._terms.checked

    def consumers(self) -> list[Peer]:
        """Return the peers that are consumers, or are taken for some."""
        return [
            peer for peer in self._connections.peers if peer.role == "consumer" and self.is_open()
        ]

    def guests(self) -> list[Peer]:
        """Return the guests that are sent frames: these are kept, as a guest may turn out to be a check."""
        if not (self._backlog.keeping or self._backlog.kept) or self._terms.attached:
            return []
        return [peer for peer in self._connections.peers if peer.silent and peer.previews]

    def spectators(self) -> list[Peer]:
        """Return the peers that are sent what others are sent."""
        return [peer for peer in self._connections.peers if peer.role == "spectator"]

    def waited_for(self, now: float) -> list[Peer]:
        """Return the consumers that have yet to take frames, and that all others wait for."""
        paced = [peer for peer in self.consumers() if not peer.live]
        # A peer that has just come, and may be a check, does not set a pace at which others lose frames.
        led = any(peer.is_ahead(now) for peer in paced)
        if self._terms.policy == "fastest" and led and not self.ended:
            return []
        return [peer for peer in paced if peer.queue or self.ended]

    def has_sure_consumer(self, now: float) -> bool:
        """Tell whether some peer is sure to be a consumer."""
        return any(peer.is_sure(now) for peer in self.consumers())

    def next_due(self) -> float:
        """Return the time at which the first guest is due; infinity if there is none."""
        guests = [peer for peer in self._connections.peers if peer.silent and self.is_open()]
        return min(map(self._due, guests), default=math.inf)

    def handle_due(self, now: float) -> None:
        """Advance the guests that are due; after the end, disconnect the peers that are done."""
        for peer in list(self._connections.peers):
            try:
                if self.ended:
                    peer.raise_when_done(now)
                elif self.is_open() and peer.silent and now >= self._due(peer):
                    self._advance_guest(peer, now)
            except OSError:
                self._connections.disconnect(peer)

    def make_guests_consumers(self) -> None:
        """Make all silent guests consumers: as guests they would miss the frames that are not kept."""
        if self.is_open():
            for peer in [peer for peer in self._connections.peers if peer.silent]:
                peer.role = "consumer"

    def disconnect_lost(self, now: float) -> None:
        """Disconnect the peers whose kernel does not answer any more."""
        for peer in [peer for peer in self._connections.peers if peer.is_lost(now)]:
            sentence = f"{peer.name} has not answered for {LOST_AFTER:g} s and is given up"
            print(f"{self._terms.stage}: {sentence}", file=sys.stderr, flush=True)
            self._connections.disconnect(peer)

    def send_kept(self, receivers: Sequence[Peer]) -> None:
        """Send each receiver those of the kept frames that it has not been sent."""
        for peer in receivers:
            self._connections.send(peer, self._backlog.kept[peer.seen :])
            peer.seen = len(self._backlog.kept)

    def send(self, receivers: Sequence[Peer], frames: Sequence[Buffer]) -> None:
        """Send each receiver the frames."""
        for peer in receivers:
            self._connections.send(peer, frames)

    def keep_newest(self) -> None:
        """Drop frames for peers that are too slow, and copy the others out of the source's buffer."""
        for peer in self._connections.peers:
            peer.keep_newest()

    def release_all(self) -> None:
        """Release all frames that are kept: they have been sent, and spectators see them, too."""
        if self._backlog.kept:
            self.send_kept(self.spectators())
        self._connections.release(len(self._backlog.kept))

    def end(self) -> None:
        """Send the end to all peers but checks, and accept no more."""
        self._connections.ended = True
        self.release_all()
        self._connections.stop_listening()
        for peer in [peer for peer in self._connections.peers if peer.role != "check"]:
            peer.queue_end(self._terms.wire, self._backlog.source.dropped)
            self._connections.send(peer, ())

    def _due(self, peer: Peer) -> float:
        """Return the time at which a silent guest is sent frames, or becomes a consumer.

        It becomes one almost at once where no other peer can lose frames, or the end, by that.
        """
        if not peer.previews:
            return peer.preview_due
        if (
            self._backlog.keeping
            or self._terms.attached
            or peer.half_closed
            or self._backlog.is_over
        ):
            return peer.due
        return min(peer.due, peer.preview_due + QUIET)

    def _advance_guest(self, peer: Peer, now: float) -> None:
        """Have a silent guest sent frames; the next time, make it a consumer.

        Raises:
            OSError: the guest has left.
        """
        if not peer.half_closed:
            # Its line may have come while this process did not run.
            self._connections.receive_from(peer)
            self._connections.watch(peer)
        if not peer.previews:
            peer.previews = True
        elif peer.half_closed and peer.knocks < KNOCKS:
            wire = self._terms.wire
            goes_on = wire.end(0, 0) or self._backlog.goes_on_after(peer.seen)
            peer.knock(wire.first_bytes if goes_on else b"")
            peer.due = now + self._connections.guest_time / KNOCKS
        elif peer.silent:
            peer.role = "consumer"
