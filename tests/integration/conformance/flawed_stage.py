# SPDX-License-Identifier: MIT
"""A filter as somebody may write it in an afternoon, with a flaw that its first argument names.

Without one (``none``) all that is required of a stage holds. It knows neither late binding nor spectators.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from typing import IO, Any

FLAW = sys.argv[1]
FLOODS = {
    "floods": b'{"type":"frame","seq":0,"parts":[{"name":"image","bytes":1}]}\nx',
}
"""What is sent again and again in place of a stream."""
Json = dict[str, Any]


def fail(code: int, sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
    os._exit(code)


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def number(name: str, default: str) -> int:
    said = text(name, default)
    if not said.isdigit():
        if FLAW == "ignores-settings":
            return 0
        fail(2, f"{name} is {said!r}, and no number")
    return int(said)


def upstream() -> tuple[IO[bytes], Json]:
    """Connect, and read a hello, again and again while that fails."""
    place = text("stream_ip"), number("stream_port", "12346")
    deadline = time.monotonic() + float(text("connect_timeout", "30"))
    while time.monotonic() < deadline:
        try:
            sock = socket.create_connection(place, 5)
            sock.settimeout(None)
            stream = sock.makefile("rb")
            if line := stream.readline():
                if FLAW == "shouts":
                    threading.Thread(target=flood, args=(sock, b"what? "), daemon=True).start()
                return stream, hello_in(line)
        except OSError:
            if FLAW == "tries-once":
                break
        time.sleep(0.02)
    fail(3, "nobody sends a hello")
    raise AssertionError


def hello_in(line: bytes) -> Json:
    try:
        hello: Json = json.loads(line)
    except ValueError:
        if FLAW == "credulous":
            signal.pause()
        fail(4, "the upstream speaks no stream")
    if hello["format"] != "gray8" and FLAW != "takes-any-format":
        fail(4, f"the format {hello['format']} is unknown")
    return hello | {"format": "gray8", "stream": "segmentation"}


def flood(sock: socket.socket, data: bytes) -> None:
    """Send the same without pause and without end."""
    while True:
        sock.sendall(data * 65536)


class Stage:
    def __init__(self) -> None:
        self.consumers: list[socket.socket] = []
        self.come = threading.Condition()
        self.hello: Json = {}
        self.ready = threading.Event()
        self.passed = 0
        self.server = socket.create_server(
            (text("segmentation_ip"), number("segmentation_port", "12347"))
        )
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            sock, _ = self.server.accept()
            threading.Thread(target=self.welcome, args=(sock,), daemon=True).start()

    def welcome(self, sock: socket.socket) -> None:
        if FLAW == "hasty-hello":
            self.hello = {"type": "hello", "stream": "x", "width": 256, "height": 256, "count": 64}
        else:
            self.ready.wait()
        sock.sendall(json.dumps(self.hello).encode() + b"\n")
        if FLAW == "no-hello":
            return
        said = sock.recv(4096) if select.select([sock], [], [], 0.2)[0] else b""
        if b'"check"' in said and FLAW != "serves-checks":
            return
        if FLAW in FLOODS:
            flood(sock, FLOODS[FLAW])
        if FLAW == "gives-up":
            sock.settimeout(0.5)
        with self.come:
            self.consumers.append(sock)
            self.come.notify()

    def send(self, data: bytes) -> None:
        for sock in self.consumers:
            if FLAW == "drops" and not select.select([], [sock], [], 0)[1]:
                continue
            try:
                sock.sendall(data)
            except TimeoutError:
                fail(1, "my consumer hangs")
            except OSError:
                pass

    def run(self) -> None:
        stream, self.hello = upstream()
        if FLAW == "no-hello":
            self.hello = {"type": "welcome"}
        frames = frames_of(stream)
        if FLAW in FLOODS:
            self.hello |= {"width": 1, "height": 1}
        if FLAW == "hoards":
            frames = hoarded(frames)
        self.ready.set()
        with self.come:
            self.come.wait_for(lambda: bool(self.consumers))
        for data in frames:
            if not (FLAW == "miscounts" and self.passed == 10):
                self.send(data)
            self.passed += 1
        self.end()

    def end(self) -> None:
        if FLAW != "endless":
            self.send(b'{"type":"end","frames":%d}\n' % self.passed)
        for sock in self.consumers:
            sock.shutdown(socket.SHUT_WR)
        if FLAW == "stays":
            signal.pause()
        for sock in self.consumers:
            sock.settimeout(5)
            sock.recv(1)


def frames_of(stream: IO[bytes]) -> Any:
    while line := stream.readline():
        header = json.loads(line)
        if header["type"] == "end":
            return
        size = sum(part["bytes"] for part in header["parts"])
        data = stream.read(size)
        if len(data) < size:
            break
        yield line + data
    if FLAW != "covers-up":
        fail(4, "the upstream broke off")


def hoarded(frames: Any) -> Any:
    """Read frames in a thread, as fast as they come; return what yields them."""
    kept: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        for data in frames:
            kept.put(data)
        kept.put(None)

    threading.Thread(target=read, daemon=True).start()
    return iter(kept.get, None)


if __name__ == "__main__":
    if FLAW == "refuses-to-wait" and "OPERATORD_LATE_BIND" in os.environ:
        fail(2, "what is that?")
    if FLAW == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Stage().run()
