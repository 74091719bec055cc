# SPDX-License-Identifier: MIT
"""A daemon and a stream server made of script, for clients to talk to."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from daemon_lab import PATIENCE

from operatord_protocol.framing import LINE_BYTES

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"

CLOSE = "close the connection"
Item = dict[str, Any] | bytes | str
Answer = Callable[[dict[str, Any]], Iterable[Item]]


def vectors(name: str) -> list[dict[str, Any]]:
    """Return the golden lines of one file."""
    with (VECTORS / f"{name}.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def golden(name: str, file: str = "replies") -> dict[str, Any]:
    """Return what is on one golden line."""
    line = next(v["line"] for v in vectors(file) if v["name"] == name)
    value: dict[str, Any] = json.loads(line)
    return value


def golden_stream(name: str) -> bytes:
    """Return the bytes of a golden stream."""
    encoded = next(v["base64"] for v in vectors("stream") if v["name"] == name)
    return base64.b64decode(encoded)


def dump(value: dict[str, Any]) -> bytes:
    """Return a line as it is, id and all."""
    return json.dumps(value).encode() + b"\n"


class Listener:
    """A server on a port of the system's choice; each connection is served on a thread, all are joined."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Hang up on everybody and wait for the threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._guard, args=(connection,)))
            self._threads[-1].start()

    def _guard(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class StubDaemon(Listener):
    """Answers each method as it was told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self.line_bytes = LINE_BYTES
        """Longest line, its end not counted; one that is longer ends its connection."""
        self.length = 0
        """Of the line that came last, its end not counted."""
        self._answers: dict[str, Answer] = {}
        super().__init__()

    def on(self, method: str, *items: Item | Answer) -> None:
        """Answer ``method`` with these: replies get the request's id, notifications stay as they are.

        A function among them is called with the request and says what to answer.
        """

        def answer(request: dict[str, Any]) -> Iterator[Item]:
            for item in items:
                if callable(item):
                    yield from item(request)
                else:
                    yield item

        self._answers[method] = answer

    def asked(self, method: str) -> dict[str, Any]:
        """Return the next request for ``method``; the others before it are passed over."""
        while True:
            request = self.requests.get(timeout=PATIENCE)
            if request["method"] == method:
                return request

    def say(self, line: bytes) -> None:
        """Send a line to everybody who is still there, without being asked."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.sendall(line)

    def serve(self, connection: socket.socket) -> None:
        for line in connection.makefile("rb"):
            if len(line) - 1 > self.line_bytes:
                connection.sendall(dump(too_long(self.line_bytes)))
                return
            request = json.loads(line)
            self.length = len(line) - 1
            self.requests.put(request)
            answer = self._answers.get(request["method"], _silence)
            for item in answer(request):
                if item == CLOSE:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(encode(item, request))


def too_long(limit: int) -> dict[str, Any]:
    """Return what a daemon answers to a line over its limit."""
    data = {"type": "parse_error", "retryable": False}
    message = f"a line is at most {limit} bytes; the connection is closed"
    return {"error": {"code": -32700, "message": message, "data": data}}


def _silence(_: dict[str, Any]) -> tuple[Item, ...]:
    return ()


def encode(item: Item, request: dict[str, Any]) -> bytes:
    """Return an item as a line; a reply takes the request's id, and so does progress."""
    if isinstance(item, bytes):
        return item
    assert isinstance(item, dict)
    if "method" not in item:
        item = {"jsonrpc": "2.0", **item, "id": request["id"]}
    elif item["method"] == "session.progress":
        item = {**item, "params": {**item["params"], "id": request["id"]}}
    return dump(item)


class StreamServer(Listener):
    """Sends the same bytes to whoever connects, in chunks, and hangs up; or stays on the line."""

    def __init__(self, stream: bytes, *, chunk: int = 1 << 20, hold: bool = False) -> None:
        self._stream = stream
        self._chunk = chunk
        self._hold = hold
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        for start in range(0, len(self._stream), self._chunk):
            connection.sendall(self._stream[start : start + self._chunk])
        if self._hold:
            connection.recv(1)


def stream_of(count: int, *, dice: float | None = None, size: int = 4) -> bytes:
    """Return a stream of ``count`` frames of ``size``×1 pixels, with masks if there is a ``dice``."""
    hello = {"type": "hello", "stream": "stub", "width": size, "height": 1, "count": count}
    out = [json.dumps(hello).encode() + b"\n"]
    parts: list[dict[str, Any]] = [{"name": "image", "bytes": size}]
    if dice is not None:
        parts.append({"name": "mask", "bytes": size, "area": 1, "dice": dice})
    for seq in range(count):
        header = {"type": "frame", "seq": seq, "pts": seq / 30, "parts": parts}
        out.append(json.dumps(header).encode() + b"\n" + bytes(size) * len(parts))
    out.append(json.dumps({"type": "end", "frames": count, "dropped": 0}).encode() + b"\n")
    return b"".join(out)


# What many tests have the daemon say.
STARTED = golden("rpc: started")
RUNNING = STARTED["result"]
SESSION_ID = STARTED["result"]["session_id"]
QUEUED = golden("progress: in the queue", "notifications")
STARTING = golden("progress: starting", "notifications")
REPORTS = [
    tuple(p["params"].get(name) for name in ("position", "stage", "reason"))
    for p in (QUEUED, STARTING)
]
EVENT = golden("event: running", "notifications")
LOG = golden("log: a line", "notifications")
LOG_END = golden("log: the last", "notifications")


def located(server: Listener, **changes: Any) -> dict[str, Any]:
    host, port = server.address
    location = {"host": host, "port": port, "url": f"tcp://{host}:{port}", "format": "json"}
    return {"result": {**STARTED["result"], "location": location, **changes}}


class Ran(NamedTuple):
    """What one run of operatorctl left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]
