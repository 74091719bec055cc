# SPDX-License-Identifier: MIT
"""The connections of all peers: accept them, read lines, send frames, close them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from functools import partial

from operatord_stage.peer import Peer
from operatord_stage.sockets import receive_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from operatord_stage.backlog import Backlog
    from operatord_stage.source import Buffer
    from operatord_stage.terms import Terms

GUEST_TIME = 0.2
"""Seconds after which a silent connection is a consumer."""
GUEST_TIME_INNER = 0.002
"""The same with visitors=False."""
QUIET = 0.001
"""Seconds that a guest's line is given to come before anything else."""
ACCEPTED = 128
"""Connections that are accepted in one turn: as many as can have waited for it."""
KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""When a silent peer's kernel is asked whether it is there: seconds, seconds between, times."""


class Connections:
    """The peers that are connected. The selector's data are callbacks, which take what is ready."""

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        terms: Terms,
        backlog: Backlog,
    ) -> None:
        """Register the listener: its callback accepts connections."""
        self.peers: list[Peer] = []
        self.checked = False  # there was a check
        self.ended = False  # all were sent the end
        self.dropped = 0  # frames, over those who have left
        self.left_early = 0  # consumers that left after the end was sent, without having it
        self.served = 0  # consumers that left with the end
        self._listener, self._selector = listener, selector
        self._terms, self._backlog = terms, backlog
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    @property
    def guest_time(self) -> float:
        """Seconds after which a silent connection is a consumer."""
        return GUEST_TIME if self._terms.visitors else GUEST_TIME_INNER

    def receive_from(self, peer: Peer) -> None:
        """Receive what a peer says; raise OSError if it will never be a consumer."""
        peer.receive()
        self.checked = self.checked or peer.role == "check"

    def send(self, peer: Peer, frames: Sequence[Buffer]) -> None:
        """Queue frames for a peer, and send what its socket takes at once."""
        if peer not in self.peers:
            return  # disconnected meanwhile
        for frame in frames:
            peer.enqueue(frame)
        try:
            peer.flush()
        except OSError:
            self.disconnect(peer)
            return
        if peer.queue and peer.live and not self.ended:
            peer.keep_newest()
        if peer.queue:
            self.watch(peer)

    def release(self, count: int) -> None:
        """Keep the first `count` frames no longer: a consumer has been sent them."""
        self._backlog.release(count)
        for peer in self.peers:
            peer.seen = max(0, peer.seen - count)

    def disconnect(self, peer: Peer) -> None:
        """Close a peer's connection. Its last line may yet tell that it was no consumer."""
        if not (peer.decided or peer.half_closed):
            with contextlib.suppress(OSError):
                peer.learn(receive_now(peer.sock) or b"")
        self.checked = self.checked or peer.role == "check"
        if self.ended and peer.role == "consumer" and peer.counts:
            self.served += peer.has_all()
            self.left_early += not peer.has_all()
        self.dropped += peer.dropped if peer.counts else 0
        self.peers.remove(peer)
        self._close(peer.sock)
        if peer.role == "consumer" and not any(other.seen for other in self.peers if other.counts):
            self.release(peer.seen)

    def stop_listening(self) -> None:
        """Accept no more connections, and free the port."""
        self._close(self._listener)

    def watch(self, peer: Peer) -> None:
        """Have the selector wait for what a peer says, and for space in its socket if frames are queued."""
        events = 0 if peer.half_closed else selectors.EVENT_READ
        events |= selectors.EVENT_WRITE if peer.queue else 0
        known = peer.sock in self._selector.get_map()
        if known and events:
            self._selector.modify(peer.sock, events, partial(self._attend, peer))
        elif known:
            self._selector.unregister(peer.sock)
        elif events:
            self._selector.register(peer.sock, events, partial(self._attend, peer))

    def _attend(self, peer: Peer, ready: int) -> None:
        """Receive from a peer and send to it, as its socket is ready."""
        if peer not in self.peers:
            return  # disconnected meanwhile
        try:
            if ready & selectors.EVENT_READ:
                self.receive_from(peer)
            if ready & selectors.EVENT_WRITE:
                peer.flush()
        except OSError:
            self.disconnect(peer)
        else:
            self.watch(peer)

    def _accept(self, _ready: int) -> None:
        """Accept all connections that wait: they came before the frame that is sent next."""
        for _ in range(ACCEPTED):
            try:
                sock, address = self._listener.accept()
            except OSError:
                return  # none waits any more; one that has gone meanwhile is not missed
            with contextlib.suppress(OSError):  # it may have gone already
                self._welcome(sock, ":".join(map(str, address[:2])))

    def _welcome(self, sock: socket.socket, name: str) -> None:
        """Send a new peer the hello. Raises `OSError`."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        peer = Peer(sock, name, time.monotonic(), self.guest_time)
        # The peer that comes after a check is the one for which the check was made: it is no check.
        peer.preview_due += QUIET if self._terms.visitors and not self.checked else 0.0
        if self._terms.live:
            peer.go_live()
        sock.send(self._terms.greeting)  # a fresh socket takes it whole
        self.peers.append(peer)
        self.watch(peer)

    def _close(self, sock: socket.socket) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
        sock.close()
