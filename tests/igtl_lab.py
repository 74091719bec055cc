# SPDX-License-Identifier: MIT
"""OpenIGTLink for tests: messages made by hand, a server and clients, and the adapters as processes.

What is made by hand shares nothing with the adapters' own code; checksums are pyigtl's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyigtl
from pyigtl.messages import CRC64

ADAPTERS = Path(__file__).resolve().parents[1] / "adapters"
HOST = "127.0.0.1"
PATIENCE = 60.0
sys.path.insert(0, str(ADAPTERS / "openigtlink-in"))  # for `igtl`

HEADER = struct.Struct(">H12s20sIIQQ")
RAS, LPS = 1, 2
TYPES = {"uint8": 3, "int16": 4, "uint16": 5, "float32": 10}
POSE = np.eye(4)
POSE[:3, 3] = 1, 2, 3
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def packed(
    kind: str, device: str, content: bytes, version: int = 1, *, time: float = 0.0, crc: int = 0
) -> bytes:
    """Return a message; ``crc`` is what its checksum is wrong by. Version 2 has metadata."""
    if version > 1:
        key, value = b"made", b"by hand"
        index = struct.pack(">HHHI", 1, len(key), 3, len(value))
        extended = struct.pack(">HHII", 12, len(index), len(key + value), 7)
        content = extended + content + index + key + value
    seconds, fraction = divmod(time, 1)
    stamp = int(seconds), int(fraction * 2**32)
    size, check = len(content), CRC64(content) ^ crc
    return HEADER.pack(version, kind.encode(), device.encode(), *stamp, size, check) + content


def image(pixels: np.ndarray[Any, Any], *, coordinates: int = RAS, **more: Any) -> bytes:
    """Return the content of an IMAGE message; pixels are rows × columns (× components), or more slices."""
    matrix, part = more.get("matrix", STRAIGHT), more.get("part")
    slices = more.get("slices", 1)
    rows, columns = pixels.shape[:2]
    components = 1 if pixels.ndim == 2 else pixels.shape[2]
    size = columns, rows // slices, slices
    scalar, endian = TYPES[pixels.dtype.name], 1 if pixels.dtype.byteorder == ">" else 2
    head = (1, components, scalar, endian, coordinates, *size, *matrix, *(part or (0, 0, 0, *size)))
    return struct.pack(">HBBBB3H12f6H", *head) + pixels.tobytes()


class Message(NamedTuple):
    """A message as it came."""

    kind: str
    device: str
    time: float
    version: int
    body: bytes
    whole: bytes


class Reader:
    """A client that reads messages one by one, and checks their sums."""

    def __init__(self, port: int, said: bytes = b"") -> None:
        self.sock = socket.create_connection((HOST, port), PATIENCE)
        self.sock.sendall(said)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def message(self) -> Message | None:
        """Return the next message; None at the end."""
        head = self._file.read(HEADER.size)
        if not head:
            return None
        version, kind, device, seconds, fraction, size, check = HEADER.unpack(head)
        body = self._file.read(size)
        assert CRC64(body) == check
        names = (field.rstrip(b"\0").decode() for field in (kind, device))
        return Message(*names, seconds + fraction / 2**32, version, body, head + body)

    def take(self, count: int) -> list[Message]:
        """Return so many messages."""
        found = [message for _ in range(count) if (message := self.message()) is not None]
        assert len(found) == count
        return found


class Scanner:
    """A server that sends each client that connects the bytes of a script, one script after another."""

    def __init__(self, *scripts: bytes) -> None:
        self._server = socket.create_server((HOST, 0))
        self._scripts = list(scripts)
        self._sockets: list[socket.socket] = []
        self.more = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._server.getsockname()[1]
        return port

    def url(self, query: str = "") -> str:
        return f"igtl://{HOST}:{self.port}{query}"

    def send(self, data: bytes) -> None:
        """Send something more to the client that is connected; wait until there is one."""
        with self.more:
            assert self.more.wait_for(lambda: self._sockets and not self._scripts, PATIENCE)
        self._sockets[-1].sendall(data)

    def hang_up(self) -> None:
        """Close the newest connection."""
        with self.more:
            assert self.more.wait_for(lambda: self._sockets, PATIENCE)
        self._sockets.pop().close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                script = self._scripts.pop(0) if self._scripts else b""
                sock.sendall(script)
                with self.more:
                    self._sockets.append(sock)
                    self.more.notify_all()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE)
        for sock in self._sockets:
            sock.close()


class Adapter:
    """An adapter that runs as a process, as the process engine runs it."""

    def __init__(self, name: str, **env: object) -> None:
        script = ADAPTERS / name / f"{name.replace('-', '_')}.py"
        settings = {key: str(value) for key, value in env.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-Es", str(script)],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._port = 0

    @property
    def port(self) -> int:
        """The port that it says it listens on."""
        if not self._port:
            self._port = self.line()["port"]
        return self._port

    def line(self) -> dict[str, Any]:
        """Wait for the next line on standard output."""
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def report_until(self, **wanted: object) -> dict[str, Any]:
        """Wait for a report with these members."""
        while (said := self.line()).items() & wanted.items() != wanted.items():
            pass
        return said

    def sentence(self) -> str:
        """Wait for the next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it has printed on standard error."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode()

    def stop(self) -> tuple[int, str]:
        self.process.terminate()
        return self.ended()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Kept(dict[str, Any]):
    """What a client of pyigtl keeps of what comes: everything, and not just the newest of each device."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Any] = []
        self.came = threading.Condition()

    def __setitem__(self, device: str, message: Any) -> None:
        super().__setitem__(device, message)
        with self.came:
            self.all.append(message)
            self.came.notify_all()


class Viewer(pyigtl.OpenIGTLinkClient):
    """pyigtl as 3D Slicer: a client that connects, and takes what comes."""

    def __init__(self, port: int, host: str = HOST) -> None:
        super().__init__(host, port, start_now=False)
        self.incoming_messages = self.kept = Kept()
        self.start()

    def take(self, count: int, device: str) -> list[Any]:
        """Wait for so many messages of a device, and return them."""
        with self.kept.came:
            assert self.kept.came.wait_for(lambda: len(self.of(device)) >= count, PATIENCE)
        return self.of(device)[:count]

    def of(self, device: str) -> list[Any]:
        return [each for each in self.kept.all if each.device_name == device]


@contextlib.contextmanager
def viewer(port: int, host: str = HOST) -> Iterator[Viewer]:
    found = Viewer(port, host)
    try:
        yield found
    finally:
        found.stop()


@contextlib.contextmanager
def pyigtl_server() -> Iterator[Any]:
    """Run pyigtl's server, which serves one client; it takes over signals and does not give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    server = pyigtl.OpenIGTLinkServer(port=0, local_server=True)
    try:
        yield server
    finally:
        server.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def disk(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a bright picture with a dark disk, which the segmentation finds."""
    y, x = np.mgrid[:64, :96]
    inside = (x - 40 - number % 20) ** 2 + (y - 30) ** 2 < 15**2
    return np.where(inside, np.uint8(20), np.uint8(200))[None]


@contextlib.contextmanager
def scanning() -> Iterator[int]:
    """Have pyigtl's server send pictures, which their time stamps count, and poses; give its port.

    It serves one client at a time, and sees that one has left only when it sends: the daemon's look at it
    costs pictures.
    """
    over = threading.Event()

    def send(server: Any) -> None:
        number = 0
        while not over.wait(0.02):
            number += 1
            sent = pyigtl.ImageMessage(disk(number), timestamp=1000 + number, device_name="US")
            server.send_message(pyigtl.TransformMessage(POSE, device_name="Pose"), wait=False)
            server.send_message(sent, wait=False)

    with pyigtl_server() as server:
        thread = threading.Thread(target=send, args=(server,))
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            over.set()
            thread.join()
