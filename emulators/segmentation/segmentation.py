#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Segment the dark object in a stream and serve the frames with its mask.

Each frame: Otsu's threshold, a box majority filter against the speckle, then area, bounding box
and, where the probe tells the truth, the Dice coefficient. Frames get a second part, the mask of
0 and 255; as YUV4MPEG2 they get the mask's contour drawn into the picture.

The hello comes as soon as the streaming server has said its own; frames begin with the first
consumer. Who sends the line {"type":"check"} is a check: it gets the hello and costs nothing. Who is
silent is sent frames at once and is a consumer after 0.2 s; should it leave before, or say by then or
a little later that it is a check, the next one is sent the same. Others begin with the next whole
frame. If all consumers leave, the stream is held up until another comes; what a consumer had accepted
when it left is lost. Who sends {"type":"consume"} is a consumer at once, with "policy":"live" in it
one that holds up nobody. With segmentation_ip unset nobody was told where the results are, so after
5 s without a consumer the stream is taken all the same, and only reported; consumers may still join.

With attached=True it joins a stream that belongs to others: its consumers never begin it or hold
it up, what is too much is dropped and counted, and if nobody ever comes it ends with the stream.

Settings, all from the environment:

    stream_ip          name or address of the streaming server              (stream)
    stream_port        its port                                             (12346)
    segmentation_ip    name or address to listen on                         (0.0.0.0)
    segmentation_port  port to listen on, 0 for any free one                (12347)
    format             json, or y4m: YUV4MPEG2 for ffmpeg and OpenCV        (json)
    policy             lossless: the slowest consumer slows everything down; fastest: frames are
                       dropped for whoever is slower than the fastest; live: for whoever is too slow;
                       they are counted in its end         (y4m: fastest, json: lossless)
    unread             hold or drop what comes while nobody consumes, but for the newest
                       frame                            (drop, if no number is known; else hold)
    checked            True: nobody is a consumer before the first check (False)
    attached           True: attach to the upstream, and be live            (False)
    visitors           False: whoever connects and says nothing is a consumer, after 2 ms  (True)
    count              frames after which to end, though the stream goes on (the stream's own)
    connect_timeout    seconds for the streaming server's hello to come     (30)
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import selectors
import socket
import sys
import time
from collections import Counter, deque
from functools import lru_cache, partial, reduce
from itertools import islice
from operator import or_
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from common.ellipse import Ellipse, spans
from common.sockets import keep_trying, listen, receive_now, resolve, unconfirmed_bytes
from common.stage import (
    BROKEN_STREAM,
    CHECK,
    LINE_LIMIT,
    LINGER,
    NOT_DELIVERED,
    SPACES,
    Fault,
    choice,
    encode,
    number,
    run,
    say,
    switch,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# ---- common to streaming and segmentation, word for word

BLOCK = 1024 * 1024  # bytes read ahead of the consumers, unless one frame needs more
PAYLOAD_LIMIT = 16 * 1024 * 1024  # bytes in a frame's parts
MOST_PARTS = 16  # of a frame
MOST_FPS = 1_000_000  # that a hello may announce
GUEST_TIME = 0.2  # seconds after which a silent connection is a consumer
GUEST_TIME_INNER = 0.002  # the same if visitors=False
QUIET = 0.001  # seconds that a guest's line is given to come before anything else
KEPT_TIME = 2.0  # seconds for which a consumer that was silent may yet say that it is none
KEPT_BYTES = 4 * 1024 * 1024  # frames that are kept meanwhile for the next, should it say so
ACCEPTED = 128  # connections in one turn: as many as can have waited for it
KNOCKS = 4  # first bytes sent singly to a half-closed guest; b'{"ty' or b"FRAM"
DEPTH = 4  # whole frames kept for a slow consumer under policy=live
GATHER = 16  # frames in one system call
STALE_BYTES = 128 * 1024  # unsent bytes in the kernel under policy=live
REPORT_EVERY = 1  # seconds
COUNTERS = ("frames", "dropped", "consumers", "blocked")  # in a report
END_POLL = 0.01  # seconds between looks at consumers that have been sent everything
LINGER_BEHIND = 60.0  # LINGER of who was slower than the stream: proxies may hold megabytes for it
LOST_AFTER = 20.0  # seconds for which a peer's kernel may answer nothing, being asked to
KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}  # seconds
HELD_UP = 1.0  # seconds without taking anything after which a report names a consumer
NO_LIMIT = 2**31 - 1  # frames
SIDES = ("width", "height")

SPARE: list[bytearray] = []  # a rehearsal's buffer: to make another takes a millisecond

Buffer: TypeAlias = "bytes | memoryview"
Role: TypeAlias = Literal["guest", "check", "waiting", "consumer"]
Policy: TypeAlias = Literal["lossless", "fastest", "live"]

ATTACH, CONSUME = b'{"type":"attach"}', b'{"type":"consume"}'
LINES: dict[bytes, tuple[Role, bool]] = {  # what who says it is, and if frames are dropped for it
    CHECK: ("check", False),
    ATTACH: ("waiting", True),
    CONSUME: ("consumer", False),
    b'{"type":"consume","policy":"live"}': ("consumer", True),
}


class Settings(NamedTuple):
    """What the environment says."""

    upstream: tuple[str, int]
    host: str
    port: int
    policy: str  # who sets the pace: see Terms; empty for what suits the format
    unread: str  # hold or drop what comes while nobody consumes; empty for what suits the stream
    checked: bool  # the daemon's check comes first, and nobody is a consumer before it
    attached: bool  # be an addition that nobody else notices, whatever becomes of it
    y4m: bool
    visitors: bool  # somebody may connect who is no consumer
    frames: int  # after which to end, even if the upstream would go on
    connect_timeout: int

    @classmethod
    def read(cls, upstream: tuple[str, int], own: tuple[str, int]) -> Settings:
        """Read and check the environment, given the names and default ports of the two ends."""
        return cls(
            upstream=(
                text(f"{upstream[0]}_ip", upstream[0]),
                number(f"{upstream[0]}_port", upstream[1], 1, 65535),
            ),
            host=text(f"{own[0]}_ip", "0.0.0.0"),  # noqa: S104 (a container serves its network)
            port=number(f"{own[0]}_port", own[1], 0, 65535),
            policy=choice("policy", "", ("", "lossless", "fastest", "live")),
            unread=choice("unread", "", ("", "hold", "drop")),
            checked=switch("checked", "false"),
            attached=switch("attached", "false"),
            y4m=choice("format", "json", ("json", "y4m")) == "y4m",
            visitors=switch("visitors", "true"),
            frames=number("count", NO_LIMIT, 1, NO_LIMIT),
            connect_timeout=number("connect_timeout", 30, 0, 86400),
        )


@contextlib.contextmanager
def understanding(what: str) -> Iterator[None]:
    """Turn what is wrong with a line, as a ValueError says it in a sentence, into a fault of its sender."""
    try:
        yield
    except ValueError as exc:
        raise Fault(BROKEN_STREAM, f"the upstream sent a malformed {what}: {exc}") from exc
    except (LookupError, TypeError, ArithmeticError) as exc:  # as when two members have one name
        raise Fault(
            BROKEN_STREAM, f"the upstream sent a malformed {what}: it is contradictory"
        ) from exc


class Frame(NamedTuple):
    """A whole frame in the source's buffer: its header line is [start:body], its parts [body:stop].

    Of these, the image is [image:behind]. The offsets hold until the source reads again.
    """

    start: int
    body: int
    image: int
    behind: int
    stop: int


class Source:
    """The upstream's stream, read into one buffer and cut into whole frames."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.hello = read_hello(sock)
        self.ended = False
        self.dropped = 0  # frames that the upstream's end says it dropped
        self.buffer = SPARE.pop() if SPARE else bytearray(BLOCK)
        self.view = memoryview(self.buffer)
        self._start = self._fill = 0
        self._head: Frame | None = None  # the next one, which is not whole yet, from offset 0
        self._picture = self.hello["width"] * self.hello["height"]

    def read(self) -> list[Frame]:
        """Receive once and return the frames that are whole now."""
        self._make_room()
        try:
            received = self.sock.recv_into(self.view[self._fill :])
        except OSError as exc:
            raise Fault(BROKEN_STREAM, f"the upstream was lost in mid-stream: {exc}") from exc
        if not received:
            raise Fault(BROKEN_STREAM, "the upstream closed in mid-stream, without an end")
        self._fill += received
        with understanding("header"):
            return list(self._frames())

    def _make_room(self) -> None:
        """Move what is left to the front; grow if one frame fills the whole buffer."""
        left = bytes(self.view[self._start : self._fill]) if self._start else b""
        if self._start:
            self._start, self._fill = 0, len(left)
            self.view[: self._fill] = left
        elif self._fill == len(self.view):
            self.buffer = self.buffer + bytes(self._fill)
            self.view = memoryview(self.buffer)

    def _frames(self) -> Iterator[Frame]:
        while (head := self._head or self._read_head()) is not None:
            if self._start + head.stop > self._fill:
                self._head = head
                return
            frame = Frame(*(self._start + offset for offset in head))
            self._start, self._head = frame.stop, None
            yield frame

    def _read_head(self) -> Frame | None:
        """Return the next frame, as if it began at 0; None if its header is not here, or at the end.

        Most headers say nothing unusual: to match them costs a sixth of reading the JSON.
        """
        limit = min(self._fill, self._start + LINE_LIMIT)
        if usual := USUAL_HEADER.match(self.buffer, self._start, limit):
            body, picture = usual.end() - self._start, self._picture
            if int(usual[1]) == picture:
                return Frame(0, body, body, body + picture, body + picture)
        newline = self.buffer.find(b"\n", self._start, limit)
        if newline < 0:
            if limit < self._fill:
                raise ValueError(f"no end of line within {LINE_LIMIT} bytes")
            return None
        header = parsed(self.buffer[self._start : newline])
        if header["type"] == "end":
            self.ended = True
            self.dropped = count_of(header, "dropped", 0)
            return None
        body = newline + 1 - self._start
        before, after = around_image(header, self._picture)
        image = body + before
        behind = image + self._picture
        return Frame(0, body, image, behind, behind + after)


USUAL_HEADER = re.compile(
    rb'\{"type":"frame","seq":\d+,"pts":[\d.]+,'
    rb'"parts":\[\{"name":"image","bytes":(\d+)\}\][^\n]*\}\n'
)


def read_hello(sock: socket.socket) -> dict[str, Any]:
    """Read the hello and not a byte more: frames stay in the kernel until somebody wants them."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        seen = sock.recv(min(4096, LINE_LIMIT - len(line)), socket.MSG_PEEK)
        if not seen:
            raise ConnectionError("it closed before its hello")
        line += sock.recv(seen.find(b"\n") + 1 or len(seen))
    with understanding("hello"):
        if not line.endswith(b"\n"):
            raise ValueError(f"no end of line within {LINE_LIMIT} bytes")
        hello = understood(parsed(line))
    if hello["format"] != "gray8":
        shown = repr(hello["format"][:64])
        raise Fault(
            BROKEN_STREAM,
            f"the upstream sends pictures as {shown}, and this stage takes gray8 only",
        )
    if (size := hello["width"] * hello["height"]) > PAYLOAD_LIMIT:
        sides = f"{hello['width']}×{hello['height']}"
        limit = f"and this stage takes up to {PAYLOAD_LIMIT}"
        raise Fault(BROKEN_STREAM, f"the upstream's pictures of {sides} have {size} bytes, {limit}")
    return hello


def parsed(line: bytes | bytearray) -> dict[str, Any]:
    """Return what a header line says; raise ValueError for one that is no JSON object with a type."""
    try:
        said = json.loads(line.decode(), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as exc:
        raise ValueError("the line is not JSON, or has a number without measure") from exc
    if not isinstance(said, dict) or not isinstance(said.get("type"), str):
        raise ValueError("the line is not a JSON object with a type")
    return said


def finite(digits: str) -> float:
    """Return a number; raise ValueError for one that nobody could be told again."""
    if math.isfinite(value := float(digits)):
        return value
    raise ValueError(digits)


def count_of(said: dict[str, Any], name: str, default: int | None = None) -> int:
    """Return a member that counts something; raise ValueError for one that is missing or no such number."""
    value = said.get(name, default)
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{name} is not a whole number from 0 to 2^53-1")
    return value


def understood(said: dict[str, Any]) -> dict[str, Any]:
    """Return a hello with what it may leave out; raise ValueError for one that breaks the format."""
    hello = {**said, "format": said.get("format", "gray8"), "fps": said.get("fps", 0)}
    if hello["type"] != "hello":
        raise ValueError("it is not a hello")
    if not isinstance(hello["format"], str):
        raise ValueError("format is not a string")
    if not all(type(hello.get(side)) is int and 1 <= hello[side] <= 65536 for side in SIDES):
        raise ValueError("width or height is not a whole number from 1 to 65536")
    if not isinstance(hello["fps"], int | float) or not 0 <= hello["fps"] <= MOST_FPS:
        raise ValueError(f"fps is not a number from 0 to {MOST_FPS}")
    if hello.get("count") is None:
        hello.pop("count", None)
    else:
        count_of(hello, "count")
    return hello


def around_image(header: dict[str, Any], picture: int) -> tuple[int, int]:
    """Return the bytes of a frame's parts before and after its image, which has that many itself."""
    if header["type"] != "frame":
        raise ValueError("it is neither a frame nor the end")
    count_of(header, "seq")
    if not isinstance(header.get("pts", 0.0), int | float):
        raise ValueError("pts is not a number")
    sizes = sizes_of(header.get("parts"))
    if (total := sum(sizes.values())) > PAYLOAD_LIMIT:
        limit = f"and this stage takes up to {PAYLOAD_LIMIT}"
        raise Fault(BROKEN_STREAM, f"the upstream's frame has {total} bytes in all parts, {limit}")
    if sizes.get("image") != picture:
        raise ValueError(f"it has no image of {picture} bytes, the size in the hello")
    before = sum(list(sizes.values())[: list(sizes).index("image")])
    return before, sum(sizes.values()) - before - picture


def sizes_of(parts: object) -> dict[str, int]:
    """Return how many bytes each part of a frame has, by its name; raise ValueError for what is none."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ValueError("parts is not a list of objects")
    if not all(isinstance(part.get("name"), str) for part in parts):
        raise ValueError("a part has no name")
    sizes = {part["name"]: count_of(part, "bytes") for part in parts}
    if len(sizes) < len(parts) or len(sizes) > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS} parts, or two of one name")
    return sizes


def reach(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first of a name's addresses that answers."""
    refusal = OSError("the name has no address")
    for family, kind, protocol, _, address in resolve(host, port):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(seconds)
        try:
            sock.connect(address)
        except OSError as exc:
            sock.close()
            refusal = exc
        else:
            return sock
    raise refusal


def connect(settings: Settings) -> Source:
    """Connect to the upstream and read its hello, again and again while it is not there yet."""
    (host, port), seconds = settings.upstream, settings.connect_timeout
    deadline = time.monotonic() + seconds

    def attempt() -> Source:
        left = max(0.05, deadline - time.monotonic())
        sock = reach(host, port, left)
        try:
            if settings.attached:
                sock.sendall(ATTACH + b"\n")  # at once: who is silent counts as a consumer
            source = Source(sock)
        except BaseException:  # also a port proxy's connection, accepted before anybody listens
            sock.close()
            raise
        sock.setblocking(False)
        return source

    return keep_trying(attempt, f"get a hello from {host}:{port}", seconds)


def rehearse(prepare: Callable[[dict[str, Any]], Callable[[memoryview, Frame], Buffer]]) -> None:
    """Look a name up, read a hello and a frame such as the upstream may send, and render the frame."""
    resolve("localhost", 0)
    size = {"width": 256, "height": 256, "format": "gray8", "fps": 30, "count": 1}
    truth = {"cx": 128, "cy": 128, "rx": 64, "ry": 48, "angle": 0}
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    with ours, theirs:
        theirs.send(encode({"type": "hello", "stream": "", **size}))
        source = Source(ours)
        parts = [{"name": "image", "bytes": 256 * 256}]
        head = encode({"type": "frame", "seq": 0, "pts": 0.0, "parts": parts, "truth": truth})
        theirs.send(head + bytes(256 * 256))
        for frame in source.read():
            prepare(source.hello)(source.view, frame)
        SPARE.append(source.buffer)


def y4m_hello(hello: dict[str, Any], stage: str) -> bytes:
    """Return the header line of a YUV4MPEG2 stream (yuv4mpeg(5)); ffmpeg takes up to 96 bytes."""
    fps = hello["fps"] or 30
    rate = f"{fps}:1" if isinstance(fps, int) else f"{max(1, round(fps * 1000))}:1000"
    size = f"W{hello['width']} H{hello['height']}"
    return f"YUV4MPEG2 {size} F{rate} Ip A1:1 Cmono Xstream={stage}\n".encode()


def y4m_frame(header: dict[str, Any]) -> bytes:
    """Return the line that comes before a frame's picture; ffmpeg takes up to 80 bytes."""
    due = f" Xpts={header['pts']}" if "pts" in header else ""
    return f"FRAME Xseq={header['seq']}{due}\n".encode()


class Peer:
    """A connection to this stage: a guest until its words, or time, tell what it is."""

    def __init__(self, sock: socket.socket, name: str, now: float, guest_time: float) -> None:
        self.sock, self.name = sock, name
        self.role: Role = "guest"
        self.live = False  # frames are dropped for it rather than that others wait
        self.due = now + guest_time  # when a guest becomes a consumer, or a finished one is closed
        self.quiet = now  # when a guest that has said nothing may be sent frames …
        self.watches = False  # … and whether that has come
        self.sure_at = now + KEPT_TIME  # from when on a consumer is taken for one for good
        self.seen = 0  # frames that it has been given of those that are kept
        self.heard = b""  # the beginning of what may become one of the known lines
        self.introduced = False  # it has said one of them
        self.deaf = False  # nothing it may still say matters
        self.left = (0, 0, 0)  # what it has yet to take at the end
        self.half_closed = False  # it sends no more; it may well go on receiving
        self.muted = False  # it was so before the end
        self.frames_before = 0  # frames it had been given when it closed its side
        self.knocks = 0
        self.finished = False
        self.queue: deque[Buffer] = deque()  # whole frames, the first sent up to offset
        self.offset = 0
        self.moved = now  # when it last took something, or had nothing to take
        self.lagged = False  # it was behind the stream at some time
        self.asked: float | None = None  # since when its kernel has answered nothing
        self.frames = self.dropped = 0

    @property
    def silent(self) -> bool:
        """Whether only time can tell what it is."""
        return self.role == "guest" and not self.heard

    def is_sure(self, now: float) -> bool:
        """Tell whether it is a consumer by its own words, or has been silent for too long to be none."""
        words = self.introduced or self.deaf or self.half_closed
        return self.role == "consumer" and (words or now >= self.sure_at)

    def leads(self, now: float) -> bool:
        """Tell whether it is sure to be a consumer, and waits for frames that others have yet to take.

        One that has closed its side may have left: it has to have taken some since.
        """
        alive = not self.half_closed or self.frames > self.frames_before
        return self.is_sure(now) and alive and not (self.live or self.queue)

    def learn(self, said: bytes) -> None:
        """Be what it says it is, in any chunks; whoever says something unknown is a consumer."""
        self.heard += said.translate(None, SPACES)
        while not self.deaf and (line := next(filter(self.heard.startswith, LINES), b"")):
            self.heard = self.heard.removeprefix(line)
            self._become(line)
        if not (self.deaf or any(line.startswith(self.heard) for line in LINES)):
            self.role, self.deaf = "consumer", True

    def _become(self, line: bytes) -> None:
        role, live = LINES[line]
        if role == "check" and self.introduced:
            return
        self.role, self.deaf, self.introduced = role, role == "check", True
        if role == "waiting":  # what it was sent as a guest reached nobody: it is owed that yet
            self.frames, self.seen = self.frames - self.seen, 0
        if live:
            self.go_live()
        if role == "check":
            self.queue.clear()  # of what it was shown, or sent when it was taken for a consumer

    def go_live(self) -> None:
        """From now on drop frames for it, and keep few in the kernel, where they grow old."""
        self.live = True
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, STALE_BYTES)
        self.keep_newest()

    def offer(self, frame: Buffer) -> None:
        """Queue a whole frame."""
        if not self.queue:
            self.moved = time.monotonic()
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
            self.moved = time.monotonic()
            self.offset += sent
            while self.queue and self.offset >= len(self.queue[0]):
                self.offset -= len(self.queue.popleft())

    def keep_newest(self) -> None:
        """Drop the oldest whole frames beyond DEPTH, and let go of the source's buffer."""
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
            self.asked = None
        elif self.asked is None:
            self.asked = now
        return self.asked is not None and now - self.asked >= LOST_AFTER

    def has_all(self) -> bool:
        """Tell whether its kernel has confirmed the stream to the end; the end of file may be on its way."""
        return self.finished and not self.queue and unconfirmed_bytes(self.sock) <= 1


class Terms(NamedTuple):
    """What a stage says to its consumers, and when it ends.

    The pace is set by the slowest consumer (lossless), by the fastest (frames are dropped for those
    who are slower; a single one gets all), or by the upstream alone (live).
    """

    stage: str
    policy: Policy
    attached: bool
    visitors: bool
    checked: bool
    drops: bool  # what comes while nobody consumes is dropped, but for the newest frame
    hello: bytes
    knock: bytes  # how every message after the hello begins
    end: bool  # whether a last message says that there is no more
    limit: int
    alone_at: float  # time of the monotonic clock from which to read on without a consumer

    @property
    def live(self) -> bool:
        """Whether nobody is ever waited for."""
        return self.policy == "live"

    @classmethod
    def agree(
        cls, stage: str, settings: Settings, said: dict[str, Any], alone_after: float = math.inf
    ) -> Terms:
        """Derive the terms from the settings and from what the upstream said in its hello.

        The limit counts only if the upstream goes on for longer: it too must deliver its end. Who
        reads YUV4MPEG2 cannot ask for frames to be dropped, so the slow do not hold up the fast
        there. Of a stream without an end, who comes late wants the present.
        """
        count, y4m = said.get("count", NO_LIMIT), settings.y4m
        hello = {**said, "stream": stage}
        endless = min(count, settings.frames) >= NO_LIMIT
        if not endless:
            hello["count"] = min(count, settings.frames)
        policy = settings.policy or ("fastest" if y4m else "lossless")
        unread = settings.unread or ("drop" if endless else "hold")
        return cls(
            stage=stage,
            policy="live" if settings.attached else cast("Policy", policy),
            attached=settings.attached,
            visitors=settings.visitors,
            checked=settings.checked,
            drops=settings.attached or unread == "drop",
            hello=y4m_hello(said, stage) if y4m else encode(hello),
            knock=b"FRAME" if y4m else b'{"type"',
            end=not y4m,
            limit=settings.frames if settings.frames < count else NO_LIMIT,
            alone_at=time.monotonic() + (0.0 if settings.attached else alone_after),
        )


class Relay:
    """Pass the source's frames, rendered, to the consumers; one thread, one selector.

    Until the first consumer is there, only one block with a whole frame is read from the upstream.
    Unless the terms are live, nothing is read while somebody whom all wait for has not been sent all
    that was read: TCP carries the back-pressure up to the probe, and one block is all that is ever
    held here.

    Who is silent may yet say that it is none, so it is sent frames at once, as a guest, and what it is
    sent is kept. Should it turn out to be none, or leave as a guest, the next one gets the same. The
    frames are let go once somebody is sure to be a consumer, and all who were sent some are consumers
    then. If the daemon checks first, nobody is sent anything before that.

    Where frames are dropped while nobody consumes, the upstream is always read and there is nothing to
    keep. An attached stage does so, too, so that not even an upstream that knows nothing of attaching
    ever waits for it.
    """

    def __init__(
        self,
        source: Source,
        listener: socket.socket,
        terms: Terms,
        render: Callable[[memoryview, Frame], Buffer],
    ) -> None:
        self.source, self.listener, self.terms, self.render = source, listener, terms, render
        self.frames = self.dropped = 0
        self.figures: dict[str, object] = {}  # more members for the report
        self._peers: list[Peer] = []
        self._stock: list[Frame] = []  # read, and passed on to nobody yet
        self._kept: list[bytes] = []  # rendered, in case that who was sent it is no consumer
        self._kept_bytes = 0
        self._newest: tuple[memoryview, Frame] | None = None  # of what was dropped
        self._keeps = True  # nobody is sure to be a consumer
        self._checked = self._begun = self._ended = self._reading = self._asked = False
        self._left = self._served = 0  # consumers of the end that left early, and that have it all
        self._report_at = time.monotonic() + REPORT_EVERY
        self._reported = (0, 0, 0, 0)
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Serve until every consumer has got the end."""
        self._read_or_rest(time.monotonic())
        while not (self._ended and not self._consumers()):
            for key, ready in self._selector.select(self._patience()):
                key.data(ready)
            now = time.monotonic()
            for peer in list(self._peers):
                self._settle(peer, now)
            self._read_or_rest(now)
            if now >= self._report_at and self._has_news():
                self._give_up_the_lost(now)
                self.report()
        if self._left and not (self._served or self.terms.live):
            raise Fault(NOT_DELIVERED, "the last consumer left before it had the stream to its end")

    def report(self) -> None:
        """Print the counters for the daemon, and who holds up the stream."""
        now = time.monotonic()
        self._reported = self._figures()
        self._report_at = now + REPORT_EVERY
        said: dict[str, object] = dict(zip(COUNTERS, self._reported, strict=True))
        said["every"] = REPORT_EVERY
        if holding := [peer for peer in self._holding(now) if now - peer.moved >= HELD_UP]:
            longest = min(holding, key=lambda peer: peer.moved)
            said |= {"held_up_by": longest.name, "held_up_for": round(now - longest.moved, 1)}
        say(type="report", stage=self.terms.stage, **said, **self.figures)

    def _has_news(self) -> bool:
        """Tell whether to report: while somebody consumes, also that nothing has changed.

        A stage that is held up would otherwise be as silent as one that hangs.
        """
        return bool(self._consumers()) or self._figures() != self._reported

    def _figures(self) -> tuple[int, int, int, int]:
        consumers = len(self._consumers())
        frames = self.frames + (len(self._kept) if consumers else 0)
        dropped = self.dropped + sum(peer.dropped for peer in self._peers)
        return frames, dropped, consumers, len(self._holding(time.monotonic()))

    def _holding(self, now: float) -> list[Peer]:
        """Return the consumers for which everybody waits, as they have yet to take something."""
        paced = [peer for peer in self._consumers() if not peer.live]
        # Who has just come, and may be none, does not set a pace that loses others frames.
        led = any(peer.leads(now) for peer in paced)
        if self.terms.policy == "fastest" and led and not self._ended:
            return []
        return [peer for peer in paced if peer.queue or self._ended]

    def _give_up_the_lost(self, now: float) -> None:
        for peer in [peer for peer in self._peers if peer.is_lost(now)]:
            sentence = f"{peer.name} has not answered for {LOST_AFTER:g} s and is given up"
            print(f"{self.terms.stage}: {sentence}", file=sys.stderr, flush=True)
            self._drop(peer)

    def _is_open(self) -> bool:
        """Tell whether there may be consumers yet."""
        return self._checked or not self.terms.checked

    def _consumers(self) -> list[Peer]:
        return [peer for peer in self._peers if peer.role == "consumer" and self._is_open()]

    def _guests(self) -> list[Peer]:
        """Return who is sent frames that are kept, as it may turn out to be no consumer."""
        if not (self._keeps or self._kept) or self.terms.attached:
            return []
        return [peer for peer in self._peers if peer.silent and peer.watches]

    def _patience(self) -> float | None:
        """Return how many seconds the selector may wait; None for as long as it takes."""
        if self._ended:
            return END_POLL
        times = [self._due(peer) for peer in self._peers if peer.silent and self._is_open()]
        if not (self._reading or self._consumers()):
            times.append(self.terms.alone_at)
        if self._keeps and self._is_full() and self._consumers():
            times.append(0.0)  # it is to be noticed that there is nothing to wait for
        if self._has_news():
            times.append(self._report_at)
        first = min(times, default=math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _accept(self, _ready: int) -> None:
        """Let in all who have connected: they were there before whatever is sent next."""
        for _ in range(ACCEPTED):
            try:
                sock, address = self.listener.accept()
            except OSError:
                return  # nobody is left in the queue; who has left it is not missed
            with contextlib.suppress(OSError):  # it may have gone already
                self._welcome(sock, ":".join(map(str, address[:2])))

    def _welcome(self, sock: socket.socket, name: str) -> None:
        """Say the hello to who has connected. Raises `OSError`."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
        guest_time = GUEST_TIME if self.terms.visitors else GUEST_TIME_INNER
        peer = Peer(sock, name, time.monotonic(), guest_time)
        # Who comes after a check is who the check was for.
        peer.quiet += QUIET if self.terms.visitors and not self._checked else 0.0
        if self.terms.live:
            peer.go_live()
        sock.send(self.terms.hello)  # a fresh socket takes it whole
        self._peers.append(peer)
        self._watch(peer)

    def _due(self, peer: Peer) -> float:
        """Return when something is to be done about a silent guest.

        Where nobody can lose a frame, or the end, by that, it is a consumer almost at once.
        """
        if not peer.watches:
            return peer.quiet
        if self._keeps or self.terms.attached or peer.half_closed or self._is_over():
            return peer.due
        return min(peer.due, peer.quiet + QUIET)

    def _watch(self, peer: Peer) -> None:
        """Tell the selector what is wanted of a peer."""
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
        if peer not in self._peers:
            return  # dropped since the selector looked
        try:
            if ready & selectors.EVENT_READ:
                self._listen_to(peer)
            if ready & selectors.EVENT_WRITE:
                peer.flush()
        except OSError:
            self._drop(peer)
        else:
            self._watch(peer)

    def _listen_to(self, peer: Peer) -> None:
        """Learn what a peer is from what it sends."""
        data = receive_now(peer.sock)
        if data == b"":
            peer.half_closed, peer.frames_before = True, peer.frames
            if peer.role in ("check", "waiting"):
                raise ConnectionError("it will never be a consumer")
            if peer.role == "guest":
                peer.heard, peer.due, peer.quiet = b"", 0.0, 0.0
        elif data and not peer.deaf:
            peer.learn(data)
            self._checked = self._checked or peer.role == "check"

    def _settle(self, peer: Peer, now: float) -> None:
        """Do what has become due for a peer."""
        try:
            if self._ended:
                self._see_off(peer, now)
            elif self._is_open() and peer.silent and now >= self._due(peer):
                self._judge(peer, now)
        except OSError:
            self._drop(peer)

    def _judge(self, peer: Peer, now: float) -> None:
        """Send frames to a guest that has been silent; after a while take it for a consumer."""
        if not peer.half_closed:
            self._listen_to(peer)  # its line may have come while it was us who did not run
            self._watch(peer)
        if not peer.watches:
            peer.watches = True
        elif peer.half_closed and peer.knocks < KNOCKS:
            peer.knock(self.terms.knock if self._goes_on(peer) else b"")
            peer.due = now + (GUEST_TIME if self.terms.visitors else GUEST_TIME_INNER) / KNOCKS
        elif peer.silent:
            peer.role = "consumer"

    def _goes_on(self, peer: Peer) -> bool:
        """Tell whether a guest is sure to be sent more than it has."""
        if self.terms.end or self._stock or peer.seen < len(self._kept):
            return True
        count = min(self.source.hello.get("count", NO_LIMIT), self.terms.limit)
        return self.frames + len(self._kept) < count and not self.source.ended

    def _drop(self, peer: Peer) -> None:
        """Part with a peer. Its last words may yet tell that it was no consumer."""
        if not (peer.deaf or peer.half_closed):
            with contextlib.suppress(OSError):
                peer.learn(receive_now(peer.sock) or b"")
        self._checked = self._checked or peer.role == "check"
        if self._ended and peer.role == "consumer":
            self._served += peer.has_all()
            self._left += not peer.has_all()
        self.dropped += peer.dropped
        self._peers.remove(peer)
        if peer.sock in self._selector.get_map():
            self._selector.unregister(peer.sock)
        peer.sock.close()
        if peer.role == "consumer" and not any(other.seen for other in self._peers):
            self._let_go(peer.seen)

    def _read_or_rest(self, now: float) -> None:
        """Read from the upstream while somebody waits for frames, else until one is in hand."""
        if self._ended:
            return
        alone = self._goes_on_alone(now)
        kept = self._keeps
        if self._is_full():  # no more could be kept for the next, so there is nothing to wait for
            for peer in self._consumers():
                peer.sure_at = now
        self._keeps = not (self.terms.drops or alone or self._is_certain(now))
        if kept and not (self._keeps or self.terms.attached):
            self._believe_all()
        receivers = self._consumers() + self._guests()
        flows = bool(receivers) or alone or self.terms.drops
        if flows:
            self._pass_on(receivers)
        elif self._stock and not self._kept:
            self._keep(self._rendered([self._stock.pop(0)]))  # it is there when somebody comes
        if self._is_over() and (self._consumers() or alone):
            self._finish()
        elif flows:
            self._read_if(not self._waits(now))
        else:
            self._read_if(not (self._stock or self._kept or self.source.ended))

    def _believe_all(self) -> None:
        """Take everybody who is silent for a consumer, or it would miss what comes next."""
        if self._is_open():
            for peer in [peer for peer in self._peers if peer.silent]:
                peer.role = "consumer"

    def _goes_on_alone(self, now: float) -> bool:
        """Tell whether what comes from the upstream is passed on, be it to nobody."""
        if self.terms.attached:
            self._ask(bool(self._consumers()))
        return (self._begun and self.terms.live) or now >= self.terms.alone_at

    def _is_certain(self, now: float) -> bool:
        """Tell whether somebody is a consumer for good; nothing is kept any longer then."""
        return any(peer.is_sure(now) for peer in self._consumers())

    def _is_full(self) -> bool:
        return self._kept_bytes >= KEPT_BYTES

    def _is_over(self) -> bool:
        """Tell whether nothing is to come that is not in the hands of all who receive."""
        through = self.frames + len(self._kept) >= self.terms.limit
        return not self._stock and (self.source.ended or through)

    def _waits(self, now: float) -> bool:
        """Tell whether others are to take something before more is read."""
        behind = any(peer.queue and not peer.live for peer in self._guests())
        full = self._keeps and self._is_full()
        return behind or full or bool(self._holding(now)) or self._is_over()

    def _ask(self, wanted: bool) -> None:
        """As an attached stage, tell the upstream whether frames would reach anybody."""
        if wanted != self._asked:
            self._asked = wanted
            with contextlib.suppress(OSError):  # a loss shows where it is read
                self.source.sock.send((CONSUME if wanted else ATTACH) + b"\n")

    def _read_if(self, wanted: bool) -> None:
        """Have the selector look at the upstream, or no longer."""
        if wanted and not self._reading:
            self._selector.register(self.source.sock, selectors.EVENT_READ, self._pump)
        elif self._reading and not wanted:
            self._selector.unregister(self.source.sock)
        self._reading = wanted

    def _pump(self, _ready: int) -> None:
        """Read a block from the upstream."""
        if self.terms.policy == "fastest":
            for peer in self._peers:
                peer.keep_newest()  # of what it has not taken, which was in the source's buffer
        room = self.terms.limit - self.frames - len(self._kept)
        self._stock = self.source.read()[:room]

    def _pass_on(self, receivers: list[Peer]) -> None:
        """Send what is kept and what is in hand to who is there."""
        self._catch_up(receivers)
        if not self._keeps:
            self._let_go(len(self._kept))
        frames, self._stock = self._stock, []
        if self.terms.drops and not receivers:
            self._put_by(frames)
        elif self._keeps:
            self._keep(self._rendered(frames))
            self._catch_up(receivers)
        else:
            self._deliver(self._rendered(frames), receivers)

    def _rendered(self, frames: list[Frame]) -> list[Buffer]:
        with understanding("header"):
            return [self.render(self.source.view, frame) for frame in frames]

    def _keep(self, frames: list[Buffer]) -> None:
        """Keep frames in case that those who are sent them are no consumers."""
        self._kept += map(bytes, frames)
        self._kept_bytes += sum(map(len, frames))

    def _catch_up(self, receivers: list[Peer]) -> None:
        """Send those who are there what they have not had of the frames that are kept."""
        for peer in receivers:
            self._send(peer, self._kept[peer.seen :])
            peer.seen = len(self._kept)

    def _deliver(self, frames: list[Buffer], receivers: list[Peer]) -> None:
        """Send those who are there what nobody else will be sent, after the newest that was dropped."""
        if receivers and self._newest is not None:
            with understanding("header"):
                frames.insert(0, self.render(*self._newest))
            self._newest = None
        self.frames += len(frames)
        for peer in receivers:
            self._send(peer, frames)

    def _put_by(self, frames: list[Frame]) -> None:
        """Drop frames that nobody is there for, all but the newest.

        An attached stage drops that as well: it would be old once somebody comes.
        """
        if frames and not self.terms.attached:
            newest = frames[-1]
            copy = memoryview(bytearray(self.source.view[newest.start : newest.stop]))
            self._newest = copy, Frame(*(offset - newest.start for offset in newest))

    def _let_go(self, count: int) -> None:
        """Keep the first so many frames no longer: a consumer has had them."""
        self._begun = self._begun or count > 0
        self.frames += count
        self._kept_bytes -= sum(map(len, self._kept[:count]))
        del self._kept[:count]
        for peer in self._peers:
            peer.seen = max(0, peer.seen - count)

    def _send(self, peer: Peer, frames: Sequence[Buffer]) -> None:
        """Queue frames for a peer, and send what its socket takes now."""
        if peer not in self._peers:
            return  # dropped since it was found to be there
        for frame in frames:
            peer.offer(frame)
        try:
            peer.flush()
        except OSError:
            self._drop(peer)
            return
        if peer.queue and peer.live and not self._ended:
            peer.keep_newest()
        if peer.queue:
            self._watch(peer)

    def _finish(self) -> None:
        """Let go of the upstream and the port, queue the end for everybody but the checks."""
        self._ended = True
        self._let_go(len(self._kept))
        for sock in (self.source.sock, self.listener):
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()
        for peer in [peer for peer in self._peers if peer.role != "check"]:
            peer.role, peer.due = "consumer", time.monotonic() + LINGER
            peer.deaf = True  # it gets the end, whatever it says now
            peer.muted = peer.half_closed
            dropped = peer.dropped + self.source.dropped
            if self.terms.end:
                peer.queue.append(
                    encode({"type": "end", "frames": peer.frames, "dropped": dropped})
                )
            self._send(peer, ())

    def _see_off(self, peer: Peer, now: float) -> None:
        """Close a consumer that has everything, or one that others outpace and that has stopped taking it.

        Its kernel must have confirmed all bytes, since ours may be gone with the container; then it
        has some time to close, as a proxy in between may still hold some: more, if it was slow.
        """
        if not (peer.finished or peer.queue or peer.role == "check"):
            peer.finished = True
            peer.sock.shutdown(socket.SHUT_WR)
        unconfirmed, outpaced = unconfirmed_bytes(peer.sock), peer.live or peer.dropped > 0
        left = len(peer.queue), peer.offset, unconfirmed
        if left != peer.left:
            peer.left, peer.moved = left, now
            peer.due = now + (LINGER_BEHIND if peer.lagged and not outpaced else LINGER)
        if outpaced and now >= peer.due:
            raise ConnectionError("too slow")
        if peer.finished and receive_now(peer.sock) == b"":
            peer.half_closed = True
        # Of one that had closed its own side before, it cannot be seen when it leaves.
        gone = peer.half_closed and not (peer.muted and peer.lagged)
        if peer.finished and not unconfirmed and (gone or now >= peer.due):
            raise ConnectionError("it has everything")


# ---- end of what is common to streaming and segmentation

ALONE_AFTER = 5.0  # seconds without a consumer, if nobody said where to serve
SAMPLES = 4096  # pixels, about, from which the threshold is found
RADIUS = 3  # of the majority filter, in pixels: a box of 7 x 7, whose votes a byte must hold


def otsu(histogram: Sequence[int]) -> int:
    """Return the level up to which a pixel is dark.

    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979):
    the level that maximizes the variance between the two classes, here the lowest such level.
    Integers keep the comparison exact up to one division.
    """
    total = sum(histogram)
    moment = sum(level * count for level, count in enumerate(histogram))
    best, threshold, dark, dark_moment = -1.0, 0, 0, 0
    for level, count in enumerate(histogram):
        dark += count
        dark_moment += level * count
        if 0 < dark < total:
            variance = (moment * dark - dark_moment * total) ** 2 / (dark * (total - dark))
            if variance > best:
                best, threshold = variance, level
    return threshold


def threshold_of(picture: bytes) -> int:
    """Return Otsu's threshold of an evenly spread sample of a picture."""
    stride = len(picture) // SAMPLES | 1  # odd, so as not to fall into step with the columns
    counts = Counter(picture[::stride])
    return otsu([counts[level] for level in range(256)])


@lru_cache(maxsize=RADIUS + 1)
def majority(radius: int) -> bytes:
    """Return the mask's byte for each number of votes in a box."""
    box = (2 * radius + 1) ** 2
    return bytes(255 if votes > box // 2 else 0 for votes in range(256))


def box_sums(votes: int, radius: int, step: int) -> int:
    """Return for each lane the sum of 2·radius+1 lanes that end at it, step lanes apart.

    Lanes are bytes of one big integer, so that a shift and an addition in C treat the whole
    picture at once. Sums of 2, 4, 8 … lanes are doubled up and joined as the binary digits of
    the box's side say.
    """
    side, width = 2 * radius + 1, 1
    total, covered = 0, 0
    while side:
        if side & 1:
            total += votes << (8 * step * covered)
            covered += width
        side >>= 1
        if side:
            votes += votes << (8 * step * width)
            width *= 2
    return total


@lru_cache(maxsize=4)
def inner_columns(width: int, height: int, radius: int) -> int:
    """Return ones in the lanes of all pixels but the outermost columns', radius on each side."""
    row = bytes(radius) + b"\x01" * (width - 2 * radius) + bytes(radius)
    return int.from_bytes(row * height, "little")


def segment(picture: bytes, width: int, height: int) -> bytes:
    """Return the mask, 255 where most of the box around a pixel is dark, else 0.

    What lies outside the picture counts as bright, and so do its outermost columns, as many as the
    box reaches to the side: their votes would otherwise spill over into the neighbouring row. In a
    picture that is hardly larger than the box, the box is smaller.
    """
    radius = min(RADIUS, (min(width, height) - 1) // 2)
    threshold = threshold_of(picture)
    table = b"\x01" * (threshold + 1) + bytes(255 - threshold)
    votes = int.from_bytes(picture.translate(table), "little") & inner_columns(
        width, height, radius
    )
    sums = box_sums(box_sums(votes, radius, 1), radius, width) >> (8 * radius * (width + 1))
    size = width * height
    return (sums & ((1 << 8 * size) - 1)).to_bytes(size, "little").translate(majority(radius))


def bounding_box(mask: bytes, width: int) -> list[int]:
    """Return [x0, y0, x1, y1], the last two exclusive; all 0 for an empty mask."""
    first = mask.find(b"\xff")
    if first < 0:
        return [0, 0, 0, 0]
    y0, y1 = first // width, mask.rfind(b"\xff") // width + 1
    rows = [int.from_bytes(mask[y * width : (y + 1) * width], "little") for y in range(y0, y1)]
    columns = reduce(or_, rows).to_bytes(width, "little")
    return [columns.find(b"\xff"), y0, columns.rfind(b"\xff") + 1, y1]


def contour(mask: bytes, width: int) -> int:
    """Return, as lanes, the mask's pixels that have a neighbour outside it."""
    lanes = int.from_bytes(mask, "little")
    right, below = 8, 8 * width
    inside = lanes & (lanes << right) & (lanes >> right) & (lanes << below) & (lanes >> below)
    return lanes ^ inside


outlines = lru_cache(maxsize=512)(spans)  # a probe's movement repeats


def dice(mask: bytes, truth: list[tuple[int, int]]) -> float:
    """Return 2·|A∩B| / (|A|+|B|) of a mask and the truth's spans (L. R. Dice, 1945)."""
    both = sum(mask.count(255, start, stop) for start, stop in truth)
    either = mask.count(255) + sum(stop - start for start, stop in truth)
    return 2 * both / either if either else 1.0


def with_mask(
    header: dict[str, Any], parts: memoryview, described: dict[str, object], mask: bytes
) -> bytes:
    """Return a frame with a mask behind its image, in place of one that it may have already."""
    found: list[tuple[dict[str, object], Buffer]] = []
    offset = 0
    for part in header["parts"]:
        payload, offset = parts[offset : offset + part["bytes"]], offset + part["bytes"]
        if part["name"] != "mask":
            found.append((part, payload))
        if part["name"] == "image":
            found.append((described, mask))
    if len(found) > MOST_PARTS:  # so that one has to go
        names = [part["name"] for part, _ in found]
        del found[max(at for at, name in enumerate(names) if name not in ("image", "mask"))]
    header["parts"] = [part for part, _ in found]
    return b"".join((encode(header), *(payload for _, payload in found)))


class Segmenter:
    """Render frames with their masks and keep the score."""

    def __init__(self, hello: dict[str, Any], *, y4m: bool) -> None:
        self.width, self.height, self.y4m = hello["width"], hello["height"], y4m
        self.scored = 0
        self.dice_sum = 0.0
        self.figures: dict[str, object] = {}  # for the report

    def render(self, block: memoryview, frame: Frame) -> Buffer:
        """Return a frame with its mask as one more part, or drawn into the picture."""
        header = parsed(bytes(block[frame.start : frame.body]))
        picture = bytes(block[frame.image : frame.behind])
        mask = segment(picture, self.width, self.height)
        part = self._describe(mask, self._outline(header.get("truth")))
        if self.y4m:
            lanes = int.from_bytes(picture, "little") | contour(mask, self.width)
            return y4m_frame(header) + lanes.to_bytes(len(picture), "little")
        return with_mask(header, block[frame.body : frame.stop], part, mask)

    def _outline(self, truth: object) -> list[tuple[int, int]] | None:
        """Return the object's true spans; None if the probe does not tell, or means something else by it."""
        with contextlib.suppress(TypeError, ValueError, ArithmeticError):
            return outlines(Ellipse(**cast("dict[str, float]", truth)), self.width, self.height)
        return None

    def _describe(self, mask: bytes, outline: list[tuple[int, int]] | None) -> dict[str, object]:
        """Return the header's part for a mask, and score it if the truth is known."""
        part: dict[str, object] = {"name": "mask", "bytes": len(mask), "area": mask.count(255)}
        part["bbox"] = bounding_box(mask, self.width)
        if outline is not None:
            score = dice(mask, outline)
            part["dice"] = round(score, 4)
            self.scored += 1
            self.dice_sum += score
            self.figures["dice_mean"] = round(self.dice_sum / self.scored, 4)
        return part


def serve(last_words: list[Callable[[], None]]) -> None:
    """Segment one stream from its hello to its end."""
    settings = Settings.read(("stream", 12346), ("segmentation", 12347))
    alone_after = math.inf if text("segmentation_ip", "") else ALONE_AFTER
    listener = listen("segmentation", settings.host, settings.port, settings.connect_timeout)
    source = connect(settings)
    segmenter = Segmenter(source.hello, y4m=settings.y4m)
    terms = Terms.agree("segmentation", settings, source.hello, alone_after)
    relay = Relay(source, listener, terms, segmenter.render)
    relay.figures = segmenter.figures
    last_words.append(relay.report)
    try:
        relay.run()
    finally:
        relay.report()


if __name__ == "__main__":
    sys.exit(
        run(
            "segmentation",
            __doc__,
            serve,
            lambda: rehearse(lambda said: Segmenter(said, y4m=False).render),
        )
    )
