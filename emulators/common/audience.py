# SPDX-License-Identifier: MIT
"""Who of the peers is a consumer, for whom everybody waits, and what becomes of those who say nothing."""

from __future__ import annotations

import math
import sys

from common.connections import QUIET
from common.peer import LOST_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.backlog import Backlog
    from common.connections import Connections
    from common.peer import Peer
    from common.source import Buffer
    from common.terms import Terms

KNOCKS = 4
"""First bytes that are sent singly to a half-closed guest: b'{"ty' or b"FRAM"."""


class Audience:
    """The peers by what they are.

    Who is silent may yet say that it is no consumer, so it is sent frames at once, as a guest, and what
    it is sent is kept. Should it turn out to be none, or leave as a guest, the next one gets the same.
    The frames are released once somebody is sure to be a consumer, and all who were sent some are
    consumers then. If the daemon checks first, nobody is sent anything before that.
    """

    def __init__(self, connections: Connections, terms: Terms, backlog: Backlog) -> None:
        self._connections, self._terms, self._backlog = connections, terms, backlog

    @property
    def ended(self) -> bool:
        """Whether all were sent the end."""
        return self._connections.ended

    @property
    def was_left(self) -> bool:
        """Whether consumers left before they had the end, and none stayed for it."""
        return self._connections.left_early > 0 and not self._connections.served

    @property
    def dropped(self) -> int:
        """Frames that were dropped, over all who are or were there."""
        return self._connections.dropped + sum(peer.dropped for peer in self._connections.peers)

    def consumers(self) -> list[Peer]:
        """Return who is a consumer, as far as is known."""
        return [
            peer for peer in self._connections.peers if peer.role == "consumer" and self._is_open()
        ]

    def guests(self) -> list[Peer]:
        """Return who is sent frames that are kept, as it may turn out to be no consumer."""
        if not (self._backlog.keeping or self._backlog.kept) or self._terms.attached:
            return []
        return [peer for peer in self._connections.peers if peer.silent and peer.previews]

    def waited_for(self, now: float) -> list[Peer]:
        """Return the consumers for which everybody waits, as they have yet to take something."""
        paced = [peer for peer in self.consumers() if not peer.live]
        # Who has just come, and may be none, does not set a pace that loses others frames.
        led = any(peer.leads(now) for peer in paced)
        if self._terms.policy == "fastest" and led and not self.ended:
            return []
        return [peer for peer in paced if peer.queue or self.ended]

    def is_certain(self, now: float) -> bool:
        """Tell whether somebody is a consumer for good."""
        return any(peer.is_sure(now) for peer in self.consumers())

    def next_due(self) -> float:
        """Return when something is to be done about a guest; infinity for never."""
        guests = [peer for peer in self._connections.peers if peer.silent and self._is_open()]
        return min(map(self._due, guests), default=math.inf)

    def settle(self, now: float) -> None:
        """Do what has become due for anybody."""
        for peer in list(self._connections.peers):
            try:
                if self.ended:
                    peer.see_off(now)
                elif self._is_open() and peer.silent and now >= self._due(peer):
                    self._judge(peer, now)
            except OSError:
                self._connections.part(peer)

    def believe_all(self) -> None:
        """Take everybody who is silent for a consumer, or it would miss what comes next."""
        if self._is_open():
            for peer in [peer for peer in self._connections.peers if peer.silent]:
                peer.role = "consumer"

    def give_up_the_lost(self, now: float) -> None:
        """Part with those whose kernel does not answer any more."""
        for peer in [peer for peer in self._connections.peers if peer.is_lost(now)]:
            sentence = f"{peer.name} has not answered for {LOST_AFTER:g} s and is given up"
            print(f"{self._terms.stage}: {sentence}", file=sys.stderr, flush=True)
            self._connections.part(peer)

    def send_kept(self, receivers: Sequence[Peer]) -> None:
        """Send each what it has not had of the frames that are kept."""
        for peer in receivers:
            self._connections.send(peer, self._backlog.kept[peer.seen :])
            peer.seen = len(self._backlog.kept)

    def send(self, receivers: Sequence[Peer], frames: Sequence[Buffer]) -> None:
        """Send each the frames, which nobody else will be sent."""
        for peer in receivers:
            self._connections.send(peer, frames)

    def keep_newest(self) -> None:
        """Drop what is too much for the slow, and leave nothing of what they get in the source's buffer."""
        for peer in self._connections.peers:
            peer.keep_newest()

    def release_all(self) -> None:
        """Keep nothing any longer of what was sent."""
        self._connections.release(len(self._backlog.kept))

    def end(self) -> None:
        """Send the end to everybody but the checks."""
        self._connections.ended = True
        self.release_all()
        self._connections.stop_listening()
        for peer in [peer for peer in self._connections.peers if peer.role != "check"]:
            peer.queue_end(self._backlog.source.dropped, message=self._terms.end)
            self._connections.send(peer, ())

    def _is_open(self) -> bool:
        """Tell whether there may be consumers yet."""
        return self._connections.checked or not self._terms.checked

    def _due(self, peer: Peer) -> float:
        """Return when something is to be done about a silent guest.

        Where nobody can lose a frame, or the end, by that, it is a consumer almost at once.
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

    def _judge(self, peer: Peer, now: float) -> None:
        """Send frames to a guest that has been silent; after a while take it for a consumer.

        Raises:
            OSError: it has left.
        """
        if not peer.half_closed:
            self._connections.listen_to(
                peer
            )  # its line may have come while it was us who did not run
            self._connections.watch(peer)
        if not peer.previews:
            peer.previews = True
        elif peer.half_closed and peer.knocks < KNOCKS:
            goes_on = self._terms.end or self._backlog.goes_on_after(peer.seen)
            peer.knock(self._terms.first_bytes if goes_on else b"")
            peer.due = now + self._connections.guest_time / KNOCKS
        elif peer.silent:
            peer.role = "consumer"
