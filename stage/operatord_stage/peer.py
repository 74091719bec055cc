# SPDX-License-Identifier: MIT
"""One connection to a stage: what it is, what it has said, and what it has yet to take."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from itertools import islice

from operatord_stage.headers import ATTACH, CONSUME, WATCH
from operatord_stage.sockets import receive_now, unconfirmed_bytes
from operatord_stage.stage import CHECK, LINGER, SPACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from operatord_stage.dialect import Dialect
    from operatord_stage.source import Buffer

    Role: TypeAlias = Literal["guest", "check", "waiting", "spectator", "consumer"]

KEPT_TIME = 2.0
"""Seconds for which a consumer that was silent may yet say that it is none."""
DEPTH = 4
"""Whole frames that are queued for a slow consumer for which frames are dropped."""
GATHER = 16
"""Frames in one system call."""
STALE_BYTES = 128 * 1024
"""Unsent bytes in the kernel, for a consumer for which frames are dropped."""
LINGER_BEHIND = 60.0
"""LINGER of a consumer that was slower than the stream: proxies may hold megabytes for it."""
LOST_AFTER = 20.0
"""Seconds for which a peer's kernel may answer nothing, being asked to."""

LINES: dict[bytes, tuple[Role, bool]] = {
    CHECK: ("check", False),
    ATTACH: ("waiting", True),
    WATCH: ("spectator", True),
    CONSUME: ("consumer", False),
    b'{"type":"consume","policy":"live"}': ("consumer", True),
}
"""The lines that say what a peer is: its role, and whether frames are dropped for it."""


class Peer:
    """A connection to this stage: a guest until its words, or time, tell what it is."""

    def __init__(self, sock: socket.socket, name: str, now: float, guest_time: float) -> None:
        """Take over a socket. `guest_time` are the seconds after which a silent guest is a consumer."""
        self.sock, self.name = sock, name
        self.role: Role = "guest"
        self.live = False  # frames are dropped for it rather than that others wait
        self.counts = True  # as one for which the stream is there
        # What it says.
        self.heard = b""  # the beginning of what may become one of the known lines
        self.introduced = False  # it has said one of them
        self.decided = False  # nothing it may still say matters
        self.half_closed = False  # it sends no more; it may well go on receiving
        # As a guest.
        self.due = now + guest_time  # when it becomes a consumer, or a finished peer is closed
        self.preview_due = now  # when it may be sent frames, if it has said nothing …
        self.previews = False  # … and whether that time has come
        self.sure_at = now + KEPT_TIME  # from when on a consumer is taken for one for good
        self.seen = 0  # frames that it was sent of those that are kept
        self.knocks = 0
        self.frames_before = 0  # frames it had been given when it closed its side
        # What it is sent.
        self.queue: deque[Buffer] = deque()  # whole frames, the first sent up to offset
        self.offset = 0
        self.frames = self.dropped = 0
        self.moved_at = now  # when it last took something, or had nothing to take
        self.lagged = False  # it was behind the stream at some time
        self.unanswered_since: float | None = None  # of what was sent again to its kernel
        # At the end.
        self.finished = False  # it was sent the end of file
        self.half_closed_before = False  # it was so before the end
        self.remaining = (0, 0, 0)  # what it has yet to take

    @property
    def silent(self) -> bool:
        """Whether it is a guest that has said nothing."""
        return self.role == "guest" and not self.heard

    def is_sure(self, now: float) -> bool:
        """Tell whether it is a consumer by its own words, or has been silent for too long to be a check."""
        words = self.introduced or self.decided or self.half_closed
        return self.role == "consumer" and (words or now >= self.sure_at)

    def is_ahead(self, now: float) -> bool:
        """Tell whether it is sure to be a consumer, and has taken all frames that it was sent.

        One that has closed its side may have left: it has to have taken frames since.
        """
        alive = not self.half_closed or self.frames > self.frames_before
        return self.is_sure(now) and alive and not (self.live or self.queue)

    def receive(self) -> None:
        """Receive what it says, and take its role from that; raise OSError if it will never be a consumer."""
        data = receive_now(self.sock)
        if data == b"":
            self.half_closed, self.frames_before = True, self.frames
            if self.role in ("check", "waiting", "spectator"):
                raise ConnectionError("it will never be a consumer")
            if self.role == "guest":
                self.heard, self.due, self.preview_due = b"", 0.0, 0.0
        elif data and not self.decided:
            self.learn(data)

    def learn(self, said: bytes) -> None:
        """Take its role from what it says, in any chunks; one that says something unknown is a consumer."""
        self.heard += said.translate(None, SPACES)
        while not self.decided and (line := next(filter(self.heard.startswith, LINES), b"")):
            self.heard = self.heard.removeprefix(line)
            self._become(line)
        if not (self.decided or any(line.startswith(self.heard) for line in LINES)):
            self.role, self.decided = "consumer", True

    def _become(self, line: bytes) -> None:
        role, live = LINES[line]
        if role == "check" and self.introduced:
            return
        self.role, self.decided, self.introduced = role, role == "check", True
        self.counts = role != "spectator"
        if role == "waiting":
            # Frames that it was sent as a guest count for nobody: it is sent them again.
            self.frames, self.seen = self.frames - self.seen, 0
        if live:
            self.go_live()
        if role == "check":
            self.queue.clear()  # frames that it was sent as a guest, or as a consumer by mistake

    def go_live(self) -> None:
        """Drop frames for it from now on, and have few in the kernel, where they grow old."""
        self.live = True
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, STALE_BYTES)
        self.keep_newest()

    def enqueue(self, frame: Buffer) -> None:
        """Queue a whole frame."""
        if not self.queue:
            self.moved_at = time.monotonic()
        self.queue.append(frame)
        self.frames += 1

    def flush(self) -> None:
        """Send what the socket takes now; raise OSError when the peer is gone."""
        while self.queue:
            first = memoryview(self.queue[0])[self.offset :]
            try:
                sent = self.sock.sendmsg((first, *islice(self.queue, 1, GATHER)))
            except BlockingIOError:
                self.lagged = True
                return
            self.moved_at = time.monotonic()
            self.offset += sent
            while self.queue and self.offset >= len(self.queue[0]):
                self.offset -= len(self.queue.popleft())

    def keep_newest(self) -> None:
        """Drop the oldest whole frames beyond DEPTH, and copy the others out of the source's buffer."""
        begun = 1 if self.offset else 0
        while len(self.queue) - begun > DEPTH:
            del self.queue[begun]
            self.dropped += 1
            self.frames -= 1
        self.queue = deque(bytes(frame) for frame in self.queue)

    def knock(self, first_bytes: bytes) -> None:
        """Send one more of the stream's first bytes: a peer that has closed answers with a reset.

        A half-closed connection (`nc -N`) and a closed one look the same until then. It takes
        more than one byte for a port proxy in between to notice. What is queued is a knock, too.
        """
        self.knocks += 1
        if not self.queue:
            with contextlib.suppress(BlockingIOError):
                self.offset += self.sock.send(first_bytes[self.offset : self.offset + 1])

    def is_lost(self, now: float) -> bool:
        """Tell whether its kernel has left unanswered for LOST_AFTER what ours sent it again and again.

        One that is alive answers, be it that nothing more fits: who pauses is not lost. So
        TCP_USER_TIMEOUT does not do, which ends both. The counters are the third and fourth byte of
        tcp_info: segments and window probes that were sent again since the last answer.
        """
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)
        if not (info[2] or info[3]):
            self.unanswered_since = None
        elif self.unanswered_since is None:
            self.unanswered_since = now
        return self.unanswered_since is not None and now - self.unanswered_since >= LOST_AFTER

    def queue_end(self, wire: Dialect, upstream_dropped: int) -> None:
        """Make it a consumer for good, to which nothing is to come but the end.

        If the dialect has a message for that, it says how many frames were sent and were dropped.
        """
        self.role, self.due = "consumer", time.monotonic() + LINGER
        self.decided = True
        self.half_closed_before = self.half_closed
        if end := wire.end(self.frames, self.dropped + upstream_dropped):
            self.queue.append(end)

    def raise_when_done(self, now: float) -> None:
        """After the end was queued, raise OSError once it has everything, or is outpaced and takes no more.

        Its kernel must have confirmed all bytes, since ours may be gone with the container; then it
        has some time to close, as a proxy in between may still hold some: more, if it was slow.
        """
        if not (self.finished or self.queue or self.role == "check"):
            self.finished = True
            self.sock.shutdown(socket.SHUT_WR)
        unconfirmed, outpaced = unconfirmed_bytes(self.sock), self.live or self.dropped > 0
        remaining = len(self.queue), self.offset, unconfirmed
        if remaining != self.remaining:
            self.remaining, self.moved_at = remaining, now
            self.due = now + (LINGER_BEHIND if self.lagged and not outpaced else LINGER)
        if outpaced and now >= self.due:
            raise ConnectionError("too slow")
        if self.finished and receive_now(self.sock) == b"":
            self.half_closed = True
        # Of one that had closed its own side before, it cannot be seen when it leaves.
        gone = self.half_closed and not (self.half_closed_before and self.lagged)
        if self.finished and not unconfirmed and (gone or now >= self.due):
            raise ConnectionError("it has everything")

    def has_all(self) -> bool:
        """Tell whether its kernel has confirmed the stream to the end; the end of file may be on its way."""
        return self.finished and not self.queue and unconfirmed_bytes(self.sock) <= 1
