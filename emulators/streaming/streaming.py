#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Serve a probe's stream to any number of consumers.

The hello comes as soon as the probe has said its own; frames begin with the first consumer. Who
sends the line {"type":"check"} is a check: it gets the hello and costs nothing. So does whoever
closes within 0.2 s, though it is shown the first frame: while nobody consumes, the next frame is
sent to each silent guest, and only to consumers what follows. A connection that stays, or sends
anything else, is a consumer; it goes on from what it was shown, or begins with the next whole
frame. If all consumers leave, the probe is held up until another comes; what a consumer had
accepted when it left is lost. Who sends {"type":"consume"} is a consumer at once,
with "policy":"live" in it one that holds up nobody. Who sends {"type":"attach"} gets the hello and
the end, and as long as it asks for them with a consume, frames, dropped if it is too slow; frames
neither begin nor wait for it.

Settings, all from the environment:

    probe_ip         name or address of the probe                       (probe)
    probe_port       its port                                           (12345)
    stream_ip        name or address to listen on                       (0.0.0.0)
    stream_port      port to listen on, 0 for any free one              (12346)
    plain_stream     True: the consumers are people's programs; False: segmentation (True)
    format           json, or y4m if plain_stream: YUV4MPEG2 for ffmpeg and OpenCV (json)
    policy           lossless: the slowest consumer slows everything down; live: frames are
                     dropped for whoever is too slow, and counted in its end   (lossless)
    attached         True: attach to the upstream, and be live            (False)
    visitors         False: whoever connects and says nothing is a consumer, after 2 ms  (True)
    count            frames after which to end, though the probe goes on (the probe's own)
    connect_timeout  seconds for the probe's hello to come              (30)
    OPERATORD_LATE_BIND=1  first wait for one line {"env":{…}} on standard input and
                           lay it over the environment, having said `waiting`; end of input: exit 0

A consumer's end counts in `frames` what was sent to it and in `dropped` what passed it by.
Standard output: JSON lines `waiting`, `listening`, `report`. Standard error: sentences for people.
Exit codes: 0 done, 2 bad setting, 3 no upstream or cannot listen, 4 the upstream broke off or
is not understood, 128+n ended by signal n.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import selectors
import signal
import socket
import struct
import sys
import termios
import threading
import time
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# ---- common to the three stages, word for word; a test holds them equal

LINE_LIMIT = 64 * 1024  # bytes in any line that is read
CHECK = b'{"type":"check"}'  # what a check sends, with any white space
SPACES = b" \t\r\n"
LINGER = 5.0  # seconds a consumer may take to close once it has everything
BAD_SETTING, NO_NEIGHBOUR, BROKEN_STREAM = 2, 3, 4  # exit codes

T = TypeVar("T")


class Fault(Exception):
    """A reason to end the process: an exit code and a sentence for standard error."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def say(**message: object) -> None:
    """Print one JSON line at once; a reader that has gone must not end the stream."""
    with contextlib.suppress(OSError):
        os.write(1, encode(message))


def encode(message: dict[str, object]) -> bytes:
    """Return a message as one line of the stream format."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def text(name: str, default: str) -> str:
    """Return a setting; one that is set but empty counts as not set."""
    return os.environ.get(name, "").strip() or default


def number(name: str, default: int, low: int, high: int) -> int:
    """Return a whole number from the environment that lies in low … high."""
    value = text(name, str(default))
    with contextlib.suppress(ValueError):
        if low <= int(value) <= high:
            return int(value)
    raise Fault(BAD_SETTING, f"{name} must be a whole number from {low} to {high}, not {value!r}")


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed words from the environment, whatever its case."""
    value = text(name, default).lower()
    if value in allowed:
        return value
    raise Fault(BAD_SETTING, f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def late_bind(rehearse: Callable[[], None]) -> None:
    """Wait for the line that lays a session's settings over the environment, if so asked.

    What is done for the first time takes two to ten times as long, so a rehearsal comes before it.
    """
    if os.environ.get("OPERATORD_LATE_BIND") != "1":
        return
    with contextlib.suppress(OSError):
        resolve("localhost", 0)
        rehearse()
    say(type="waiting")
    line = sys.stdin.buffer.readline(LINE_LIMIT)
    if not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        raise SystemExit(0)  # end of input: this warm process is not needed any more
    try:
        env = json.loads(line)["env"]
        os.environ.update({name: str(value) for name, value in env.items()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise Fault(BAD_SETTING, 'the line on standard input is not {"env":{…}}') from exc


def watch_signals() -> list[Callable[[], None]]:
    """End the process on SIGTERM or SIGINT with code 128+n, whatever it is waiting in.

    Return a list: what is put into it is called before the end. A thread takes the signals,
    because a handler would only run once the main thread is back from C, and a name look-up can
    take many seconds. Being blocked, the signals also reach PID 1 of a container, for which the
    kernel drops those left at their default.
    """
    last_words: list[Callable[[], None]] = []
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        code = 128 + signal.sigwait(signals)
        threading.Timer(0.5, os._exit, (code,)).start()  # should standard output be stuck
        for call in last_words:
            call()
        os._exit(code)

    threading.Thread(target=wait, daemon=True).start()
    return last_words


def keep_trying(attempt: Callable[[], T], what: str, seconds: float) -> T:
    """Return attempt()'s result, repeating it while the system refuses.

    Each pause is a tenth of what has been waited so far, 0.2 to 250 ms: whenever the neighbour
    comes, little time is lost over it.
    """
    begun = time.monotonic()
    while True:
        try:
            return attempt()
        except OSError as exc:
            waited = time.monotonic() - begun
            pause = min(max(0.0002, waited / 10), 0.25)
            if waited + pause > seconds:
                raise Fault(NO_NEIGHBOUR, f"cannot {what} within {seconds} s: {exc}") from exc
        time.sleep(pause)


def resolve(host: str, port: int) -> list[Any]:
    """Look a name up, as socket.getaddrinfo does.

    For a name in str Python first loads its codec for names beyond ASCII, which takes milliseconds
    that nearly all names can do without.
    """
    name = host.encode() if host.isascii() else host
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)


def listen(stage: str, host: str, port: int, seconds: float) -> socket.socket:
    """Bind to a name, which may resolve only a little later, and print where."""

    def bind() -> socket.socket:
        found = resolve(host, port)
        try:
            return socket.create_server(found[0][4][:2], family=found[0][0], backlog=128)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise Fault(NO_NEIGHBOUR, f"port {port} of {host} is in use") from exc

    server = keep_trying(bind, f"listen on {host}:{port}", seconds)
    address = server.getsockname()
    say(type="listening", stage=stage, host=address[0], port=address[1])
    return server


def hear(sock: socket.socket) -> bytes | None:
    """Return what the peer has sent, None for nothing so far, b"" once it sends no more."""
    try:
        return sock.recv(4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None


def unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes the peer's kernel has yet to confirm (tcp(7), SIOCOUTQ)."""
    waiting: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return waiting


def run(
    script: str,
    serve: Callable[[list[Callable[[], None]]], None],
    rehearse: Callable[[], None],
) -> int:
    """Serve one session; return the exit code, and say a fault's sentence."""
    if sys.argv[1:] == ["--help"]:
        print(__doc__)
        return 0
    try:
        if sys.argv[1:]:
            raise Fault(BAD_SETTING, "settings come from the environment, see --help")
        last_words = watch_signals()
        late_bind(rehearse)
        serve(last_words)
    except Fault as fault:
        print(f"{script}: {fault}", file=sys.stderr)
        return fault.code
    return 0


# ---- end of what is common to the three stages

# ---- common to streaming and segmentation, word for word

BLOCK = 1024 * 1024  # bytes read ahead of the consumers, unless one frame needs more
PAYLOAD_LIMIT = 16 * 1024 * 1024  # bytes in a frame's parts
GUEST_TIME = 0.2  # seconds after which a silent connection is a consumer
GUEST_TIME_CHECKED = 0.02  # the same once a check was seen: then its line is what is waited for
GUEST_TIME_INNER = 0.002  # the same if visitors=False
QUIET = 0.001  # seconds that a guest's line is given to come before the first frame is sent
KNOCKS = 4  # first bytes sent singly to a half-closed guest; b'{"ty' or b"FRAM"
DEPTH = 4  # whole frames kept for a slow consumer under policy=live
GATHER = 16  # frames in one system call
STALE_BYTES = 128 * 1024  # unsent bytes in the kernel under policy=live
REPORT_EVERY = 1  # seconds
COUNTERS = ("frames", "dropped", "consumers", "blocked")  # in a report
END_POLL = 0.01  # seconds between looks at consumers that have been sent everything
NO_LIMIT = 2**31 - 1  # frames
SIDES = ("width", "height")

SPARE: list[bytearray] = []  # a rehearsal's buffer: to make another takes a millisecond

Buffer: TypeAlias = "bytes | memoryview"
Role: TypeAlias = Literal["guest", "check", "waiting", "consumer"]

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
    live: bool  # drop frames for a slow consumer instead of slowing everything down
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
            live=choice("policy", "lossless", ("lossless", "live")) == "live",
            attached=choice("attached", "false", ("true", "false")) == "true",
            y4m=choice("format", "json", ("json", "y4m")) == "y4m",
            visitors=choice("visitors", "true", ("true", "false")) == "true",
            frames=number("count", NO_LIMIT, 1, NO_LIMIT),
            connect_timeout=number("connect_timeout", 30, 0, 86400),
        )


@contextlib.contextmanager
def understanding(what: str) -> Iterator[None]:
    """Turn what goes wrong when a line does not say what it should into a fault of its sender."""
    try:
        yield
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as exc:
        raise Fault(BROKEN_STREAM, f"the upstream sent a malformed {what}: {exc}") from exc


class Frame(NamedTuple):
    """A whole frame in the source's buffer: its header line is [start:body], its parts [body:stop].

    The offsets hold until the source reads again.
    """

    start: int
    body: int
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
        self._head: tuple[int, int] | None = None  # bytes of the next frame's header, of all
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
            start, stop = self._start, self._start + head[1]
            if stop > self._fill:
                self._head = head
                return
            self._start, self._head = stop, None
            yield Frame(start, start + head[0], stop)

    def _read_head(self) -> tuple[int, int] | None:
        """Return the bytes of the next frame's header and of it all; None if not here or the end.

        Most headers say nothing unusual: to match them costs a sixth of reading the JSON.
        """
        limit = min(self._fill, self._start + LINE_LIMIT)
        if usual := USUAL_HEADER.match(self.buffer, self._start, limit):
            header_bytes, payload = usual.end() - self._start, int(usual[1])
            if payload == self._picture:
                return header_bytes, header_bytes + payload
        newline = self.buffer.find(b"\n", self._start, limit)
        if newline < 0:
            if limit < self._fill:
                raise ValueError(f"no end of line within {LINE_LIMIT} bytes")
            return None
        header = json.loads(self.buffer[self._start : newline].decode())
        if header["type"] == "end":
            self.ended = True
            self.dropped = int(header.get("dropped", 0))
            return None
        header_bytes = newline + 1 - self._start
        return header_bytes, header_bytes + payload_bytes(header, self._picture)


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
        hello: dict[str, Any] = json.loads(line.decode())
        if hello["type"] != "hello" or hello["format"] != "gray8":
            raise ValueError("not a hello for gray8")
        if not all(type(hello[side]) is int and 16 <= hello[side] <= 8192 for side in SIDES):
            raise ValueError("width or height out of range")
        if not 0 <= hello["fps"] <= 1000 or type(hello.get("count", 1)) is not int:
            raise ValueError("fps or count out of range")
    return hello


def payload_bytes(header: dict[str, Any], picture: int) -> int:
    """Return the bytes that follow a frame header; an image of so many bytes must come first."""
    if header["type"] != "frame" or type(header["seq"]) is not int:
        raise ValueError("not a frame with a seq")
    if not isinstance(header["pts"], int | float):
        raise ValueError("pts is not a number")
    sizes = [part["bytes"] for part in header["parts"]]
    if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > PAYLOAD_LIMIT:
        raise ValueError("bytes out of range")
    if header["parts"][0]["name"] != "image" or sizes[0] != picture:
        raise ValueError("the first part is not an image of the size in the hello")
    return sum(sizes)


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
    """Read a hello and a frame such as the upstream may send, and render the frame."""
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
    rate = f"{fps}:1" if isinstance(fps, int) else f"{round(fps * 1000)}:1000"
    size = f"W{hello['width']} H{hello['height']}"
    return f"YUV4MPEG2 {size} F{rate} Ip A1:1 Cmono Xstream={stage}\n".encode()


def y4m_frame(header: dict[str, Any]) -> bytes:
    """Return the line that comes before a frame's picture; ffmpeg takes up to 80 bytes."""
    return f"FRAME Xseq={header['seq']} Xpts={header['pts']}\n".encode()


class Peer:
    """A connection to this stage: a guest until its words, or time, tell what it is."""

    def __init__(self, sock: socket.socket, due: float) -> None:
        self.sock = sock
        self.role: Role = "guest"
        self.live = False  # frames are dropped for it rather than that others wait
        self.due = due  # when a guest becomes a consumer, or a finished consumer is closed
        self.quiet = 0.0  # when a guest that has said nothing is shown the first frame
        self.ahead = False  # it has been given the frame that is passed on next
        self.heard = b""  # the beginning of what may become one of the known lines
        self.introduced = False  # it has said one of them
        self.deaf = False  # nothing it may still say matters
        self.left = (0, 0, 0)  # what it has yet to take at the end
        self.half_closed = False  # it sends no more; it may well go on receiving
        self.knocks = 0
        self.finished = False
        self.queue: deque[Buffer] = deque()  # whole frames, the first sent up to offset
        self.offset = 0
        self.frames = self.dropped = 0

    @property
    def silent(self) -> bool:
        """Whether only time can tell what it is."""
        return self.role == "guest" and not self.heard

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
        self.queue.append(frame)
        self.frames += 1

    def flush(self) -> None:
        """Send what the socket takes now; raise OSError when the peer is gone."""
        while self.queue:
            first = memoryview(self.queue[0])[self.offset :]
            try:
                sent = self.sock.sendmsg((first, *islice(self.queue, 1, GATHER)))
            except BlockingIOError:
                return
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


class Terms(NamedTuple):
    """What a stage says to its consumers, and when it ends."""

    stage: str
    live: bool
    attached: bool
    visitors: bool
    hello: bytes
    knock: bytes  # how every message after the hello begins
    end: bool  # whether a last message says that there is no more
    limit: int
    alone_at: float  # time of the monotonic clock from which to read on without a consumer

    @classmethod
    def agree(
        cls, stage: str, settings: Settings, said: dict[str, Any], alone_after: float = math.inf
    ) -> Terms:
        """Derive the terms from the settings and from what the upstream said in its hello.

        The limit counts only if the upstream goes on for longer: it too must deliver its end.
        """
        count, y4m = said.get("count", NO_LIMIT), settings.y4m
        hello = {**said, "stream": stage}
        if min(count, settings.frames) < NO_LIMIT:
            hello["count"] = min(count, settings.frames)
        if settings.attached:
            alone_after = 0.0
        return cls(
            stage=stage,
            live=settings.live or settings.attached,
            attached=settings.attached,
            visitors=settings.visitors,
            hello=y4m_hello(said, stage) if y4m else encode(hello),
            knock=b"FRAME" if y4m else b'{"type"',
            end=not y4m,
            limit=settings.frames if settings.frames < count else NO_LIMIT,
            alone_at=time.monotonic() + alone_after,
        )


class Relay:
    """Pass the source's frames, rendered, to the consumers; one thread, one selector.

    Until the first consumer is there, only one block with a whole frame is read from the upstream.
    Its first frame is shown to guests, so that they need not wait until they are consumers, but it
    is passed on only with the first of them: if all leave, the next one is shown the same. Unless
    the terms are live, nothing is read while some consumer has not been sent all that was read: TCP
    carries the back-pressure up to the probe, and one block is all that is ever held here. Consumers
    that are live themselves hold nothing up. An attached stage always reads, so that not even an
    upstream that knows nothing of attaching ever waits for it.
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
        self._preview: Buffer = b""  # the first of them, rendered, while nobody consumes
        self._checked = self._begun = self._ended = self._reading = self._asked = False
        self._report_at = time.monotonic() + REPORT_EVERY
        self._reported = (0, 0, 0, 0)
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Serve until every consumer has got the end."""
        while not (self._ended and not self._consumers()):
            for key, ready in self._selector.select(self._patience()):
                key.data(ready)
            now = time.monotonic()
            for peer in list(self._peers):
                self._settle(peer, now)
            self._read_or_rest(now)
            if now >= self._report_at and self._has_news():
                self.report()

    def report(self) -> None:
        """Print the counters for the daemon."""
        self._reported = self._figures()
        self._report_at = time.monotonic() + REPORT_EVERY
        counters = dict(zip(COUNTERS, self._reported, strict=True))
        say(type="report", stage=self.terms.stage, **counters, every=REPORT_EVERY, **self.figures)

    def _has_news(self) -> bool:
        """Tell whether to report: while somebody consumes, also that nothing has changed.

        A stage that is held up would otherwise be as silent as one that hangs.
        """
        return bool(self._consumers()) or self._figures() != self._reported

    def _figures(self) -> tuple[int, int, int, int]:
        consumers = self._consumers()
        dropped = self.dropped + sum(peer.dropped for peer in self._peers)
        blocked = sum(self._holds_up(peer) for peer in consumers)
        return self.frames, dropped, len(consumers), blocked

    def _holds_up(self, peer: Peer) -> bool:
        """Tell whether it is what a consumer has yet to take that everybody waits for."""
        return not peer.live and (bool(peer.queue) or self._ended)

    def _consumers(self) -> list[Peer]:
        return [peer for peer in self._peers if peer.role == "consumer"]

    def _patience(self) -> float | None:
        """Return how many seconds the selector may wait; None for as long as it takes."""
        if self._ended:
            return END_POLL
        times = [peer.due for peer in self._peers if peer.silent]
        times += [peer.quiet for peer in self._peers if self._may_be_shown(peer)]
        if not (self._reading or self._consumers()):
            times.append(self.terms.alone_at)
        if self._has_news():
            times.append(self._report_at)
        first = min(times, default=math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _accept(self, _ready: int) -> None:
        with contextlib.suppress(OSError):  # it may have left the queue already
            sock, _ = self.listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            now = time.monotonic()
            peer = Peer(sock, now + self._guest_time())
            # Who comes after a check is who the check was for.
            patient = self.terms.visitors and not self._checked
            peer.quiet = now + (QUIET if patient else 0.0)
            if self.terms.live:
                peer.go_live()
            sock.send(self.terms.hello)  # a fresh socket takes it whole
            self._peers.append(peer)
            self._watch(peer)

    def _guest_time(self) -> float:
        if not self.terms.visitors:
            return GUEST_TIME_INNER
        return GUEST_TIME_CHECKED if self._checked else GUEST_TIME

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
        data = hear(peer.sock)
        if data == b"":
            peer.half_closed = True
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
            elif peer.silent and now >= peer.due:
                self._judge(peer, now)
            elif now >= peer.quiet and self._may_be_shown(peer):
                self._show(peer)
        except OSError:
            self._drop(peer)

    def _judge(self, peer: Peer, now: float) -> None:
        """Take a guest that has been silent for long enough for a consumer."""
        if not peer.half_closed:
            self._listen_to(peer)  # its line may have come while it was us who did not run
            self._watch(peer)
        if peer.half_closed and peer.knocks < KNOCKS:
            peer.knock(self.terms.knock if self._goes_on(peer) else b"")
            peer.due = now + self._guest_time() / KNOCKS
        elif peer.silent:
            peer.role = "consumer"

    def _goes_on(self, peer: Peer) -> bool:
        """Tell whether a guest is sure to be sent more than it has."""
        if self.terms.end or len(self._stock) > peer.ahead:
            return True
        count = min(self.source.hello.get("count", NO_LIMIT), self.terms.limit)
        return self.frames + peer.ahead < count and not self.source.ended

    def _may_be_shown(self, peer: Peer) -> bool:
        """Tell whether the first frame would be news to a guest."""
        return bool(self._preview) and peer.silent and not peer.ahead

    def _show(self, peer: Peer) -> None:
        """Send a guest the first frame, though it may yet turn out to be no consumer."""
        if not peer.half_closed:
            self._listen_to(peer)
        if peer.silent:
            peer.ahead = True
            peer.offer(self._preview)
            peer.flush()
        self._watch(peer)

    def _drop(self, peer: Peer) -> None:
        self.dropped += peer.dropped
        self._peers.remove(peer)
        if peer.sock in self._selector.get_map():
            self._selector.unregister(peer.sock)
        peer.sock.close()

    def _read_or_rest(self, now: float) -> None:
        """Read from the upstream while somebody waits for frames, else until one is in hand."""
        if self._ended:
            return
        flows, in_hand = self._flows(now), bool(self._stock) or self.source.ended
        if flows and in_hand:
            self._pass_on()
        elif self._stock and not self._preview:
            with understanding("header"):
                self._preview = bytes(self.render(self.source.view, self._stock[0]))
        if self._ended:
            return
        held_up = any(self._holds_up(peer) for peer in self._consumers())
        wanted = not held_up if flows else not in_hand
        if wanted and not self._reading:
            self._selector.register(self.source.sock, selectors.EVENT_READ, self._pump)
        elif self._reading and not wanted:
            self._selector.unregister(self.source.sock)
        self._reading = wanted

    def _flows(self, now: float) -> bool:
        """Tell whether what comes from the upstream is to be passed on, be it to nobody."""
        consumed = bool(self._consumers())
        self._begun = self._begun or consumed
        if self.terms.attached:
            self._ask(consumed)
        return consumed or (self._begun and self.terms.live) or now >= self.terms.alone_at

    def _ask(self, wanted: bool) -> None:
        """As an attached stage, tell the upstream whether frames would reach anybody."""
        if wanted != self._asked:
            self._asked = wanted
            with contextlib.suppress(OSError):  # a loss shows where it is read
                self.source.sock.send((CONSUME if wanted else ATTACH) + b"\n")

    def _pump(self, _ready: int) -> None:
        """Read a block from the upstream."""
        self._stock = self.source.read()[: self.terms.limit - self.frames]

    def _pass_on(self) -> None:
        """Render what is in hand for the consumers, guests that have seen the first of it included."""
        for peer in self._peers:
            if peer.ahead and peer.role == "guest":
                peer.role = "consumer"  # or it would miss what comes next
        consumers = self._consumers()
        frames, self._stock = self._stock, []
        if self.terms.attached and not consumers:
            frames = []  # not worth rendering: who is attached to must not wait for that either
        with understanding("header"):
            for frame in frames:
                self._offer(self._preview or self.render(self.source.view, frame), consumers)
        for peer in consumers:
            self._send(peer)
        if self.source.ended or self.frames == self.terms.limit:
            self._finish()

    def _offer(self, rendered: Buffer, consumers: list[Peer]) -> None:
        """Queue a frame for whoever does not have it yet."""
        for peer in consumers:
            if not peer.ahead:
                peer.offer(rendered)
        for peer in self._peers:
            peer.ahead = False
        self._preview = b""
        self.frames += 1

    def _send(self, peer: Peer) -> None:
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
        for sock in (self.source.sock, self.listener):
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()
        for peer in [peer for peer in self._peers if peer.role != "check"]:
            peer.role, peer.due = "consumer", time.monotonic() + LINGER
            peer.deaf = True  # it gets the end, whatever it says now
            dropped = peer.dropped + self.source.dropped
            if self.terms.end:
                peer.queue.append(
                    encode({"type": "end", "frames": peer.frames, "dropped": dropped})
                )
            self._send(peer)

    def _see_off(self, peer: Peer, now: float) -> None:
        """Close a consumer that has everything, or if it is live, one that has stopped taking it.

        Its kernel must have confirmed all bytes, since ours may be gone with the container;
        then it has LINGER to close, as a proxy in between may still hold some.
        """
        if not (peer.finished or peer.queue or peer.role == "check"):
            peer.finished = True
            peer.sock.shutdown(socket.SHUT_WR)
        unconfirmed = unacknowledged(peer.sock)
        left = len(peer.queue), peer.offset, unconfirmed
        if left != peer.left:
            peer.left, peer.due = left, now + LINGER
        if peer.live and now >= peer.due:
            raise ConnectionError("too slow")
        if peer.finished and hear(peer.sock) == b"":
            peer.half_closed = True
        if peer.finished and not unconfirmed and (peer.half_closed or now >= peer.due):
            raise ConnectionError("it has everything")


# ---- end of what is common to streaming and segmentation


def y4m_picture(block: memoryview, frame: Frame) -> Buffer:
    """Return a frame as YUV4MPEG2, its line written over the longer header right before it."""
    header = json.loads(bytes(block[frame.start : frame.body]))
    line = y4m_frame(header)
    start = frame.body - len(line)
    block[start : frame.body] = line
    return block[start : frame.body + header["parts"][0]["bytes"]]


def as_received(block: memoryview, frame: Frame) -> Buffer:
    """Return a frame as it is."""
    return block[frame.start : frame.stop]


def serve(last_words: list[Callable[[], None]]) -> None:
    """Relay one stream from its hello to its end."""
    settings = Settings.read(("probe", 12345), ("stream", 12346))
    if choice("plain_stream", "true", ("true", "false")) == "false":
        settings = settings._replace(y4m=False)  # segmentation is the one who reads
    listener = listen("stream", settings.host, settings.port, settings.connect_timeout)
    source = connect(settings)
    render = y4m_picture if settings.y4m else as_received
    relay = Relay(source, listener, Terms.agree("stream", settings, source.hello), render)
    last_words.append(relay.report)
    try:
        relay.run()
    finally:
        relay.report()


if __name__ == "__main__":
    sys.exit(run("streaming", serve, lambda: rehearse(lambda _hello: as_received)))
