# SPDX-License-Identifier: MIT
"""Run the camera beside real sources, and read what it serves: helpers for tests."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "adapters" / "camera"
HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for anything that is waited for
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's, which has GStreamer's modules
RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")
SIZE = (64, 48)
JPEGS = 12
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/elsewhere.ts\n#EXT-X-ENDLIST\n"
SCRIPT = b"ffconcat version 1.0\nfile 'script%d'\n"
"""ffmpeg's own kind of playlist, which names the next one."""
PASSWORD = "pass word/äß"
"""Of the RTSP server's user, with what has to be quoted in a URL."""


def load() -> SimpleNamespace:
    """Import the camera's modules; return them by their names."""
    sys.path.insert(0, str(FOLDER))
    names = [file.stem for file in FOLDER.glob("*.py")]
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def need_gstreamer() -> None:
    """Skip the test, which fails under CI, if GStreamer's RTSP server is not there."""
    program = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, check=False)
    except OSError:
        done = None
    if done is None or done.returncode:
        pytest.skip("gir1.2-gst-rtsp-server-1.0 is not installed")


def make_video(ffmpeg: str, path: Path, *options: str, frames: int = 20, rate: int = 20) -> Path:
    """Make a file of moving pictures, in which picture N has the brightness 10 * (N + 1)."""
    width, height = SIZE
    grey = f"color=black:size={width}x{height}:rate={rate},format=gray,geq=lum=10*(N+1)"
    command = [ffmpeg, "-loglevel", "error", "-y", "-f", "lavfi", "-i", grey]
    subprocess.run([*command, "-frames:v", str(frames), *options, str(path)], check=True)
    return path


class Ended(NamedTuple):
    """What a camera left behind."""

    code: int
    report: dict[str, Any]
    """The last one; empty if there was none."""
    sentences: str


class Camera:
    """A running camera."""

    def __init__(self, url: str, env: dict[str, object]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.endswith("_ip")}
        settings = {"probe_ip": HOST, "probe_port": "0", "source_url": url, **env}
        self.process = subprocess.Popen(
            [sys.executable, "-s", str(FOLDER / "camera.py")],
            env={**clean, **{name: str(value) for name, value in settings.items()}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def line(self) -> dict[str, Any]:
        """Wait for the next line on its standard output."""
        assert self.process.stdout
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def port(self) -> int:
        """Wait for it to say where it listens."""
        line = self.line()
        assert line["type"] == "listening", line
        port: int = line["port"]
        return port

    def report_until(self, **wanted: object) -> dict[str, Any]:
        """Wait for a report with these members."""
        while (line := self.line()).items() & wanted.items() != wanted.items():
            pass
        return line

    def sentence(self) -> str:
        """Wait for the next line on its standard error."""
        assert self.process.stderr
        return self.process.stderr.readline().decode()

    def decoder_arguments(self) -> str:
        """Return the arguments of its ffmpeg, as everybody on the machine can read them."""
        return self._of_decoder("cmdline").replace("\0", " ")

    def decoder_environment(self) -> str:
        """Return the environment of its ffmpeg, one variable a line."""
        return self._of_decoder("environ").replace("\0", "\n")

    def _of_decoder(self, name: str) -> str:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return Path(f"/proc/{children.split()[0]}/{name}").read_text()

    def ended(self) -> Ended:
        """Wait for it to end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        lines = [json.loads(line) for line in out.splitlines()]
        reports = [line for line in lines if line["type"] == "report"]
        return Ended(self.process.returncode, reports[-1] if reports else {}, err.decode())

    def close(self) -> None:
        """End it politely, so that its ffmpeg ends as well."""
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)


class Frame(NamedTuple):
    """A frame as a consumer gets it."""

    seq: int
    pts: float
    image: bytes

    @property
    def level(self) -> int:
        """The mean brightness."""
        return round(sum(self.image) / len(self.image))


class Consumer:
    """A consumer of a stage."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((HOST, port), PATIENCE)
        self.sock.sendall(b'{"type":"consume"}\n')
        self._file = self.sock.makefile("rb")
        self.hello: dict[str, Any] = json.loads(self._file.readline() or "{}")
        self.end: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def frame(self) -> Frame | None:
        """Return the next frame; None at the end, or where the stream breaks off."""
        line = self._file.readline()
        if not line:
            return None
        header = json.loads(line)
        if header["type"] == "end":
            self.end = header
            return None
        (part,) = header["parts"]
        return Frame(header["seq"], header["pts"], self._file.read(part["bytes"]))

    def frames(self, count: int | None = None) -> list[Frame]:
        """Return the next frames, or all."""
        found: list[Frame] = []
        while (count is None or len(found) < count) and (frame := self.frame()):
            found.append(frame)
        return found


class RtspServer:
    """GStreamer's RTSP server with one camera: a moving ball of 320 x 240 at 25 frames a second."""

    def __init__(
        self, port: int = 0, user: str = "", password: str = "", tls: tuple[Path, ...] = ()
    ) -> None:
        need_gstreamer()
        self._scheme = "rtsps" if tls else "rtsp"
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, "-I", str(RTSP_SERVER), str(port), user, password, *map(str, tls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def url(self, userinfo: str = "") -> str:
        return f"{self._scheme}://{userinfo}{HOST}:{self.port}/camera"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class MjpegServer:
    """A web server with a camera: JPEGs as multipart/x-mixed-replace, as long as it is asked to go on."""

    def __init__(
        self,
        jpegs: list[bytes],
        port: int = 0,
        interval: float = 0.04,
        tls: ssl.SSLContext | None = None,
        most: float = math.inf,
    ) -> None:
        self.connections = 0
        self._most = most
        self._gone = threading.Event()
        lab = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lab.connections += 1
                with contextlib.suppress(OSError):
                    lab.answer(self, jpegs, interval)

            def log_message(self, format: str, *args: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, jpegs: list[bytes], interval: float) -> None:
        """Send pictures until the camera is gone."""
        if handler.path == "/none":
            handler.send_error(404)
            return
        handler.send_response(200)
        if handler.path.startswith(("/playlist", "/script")):
            listing = PLAYLIST if handler.path == "/playlist" else SCRIPT % self.connections
            handler.send_header("Content-Type", "application/vnd.apple.mpegurl")
            handler.send_header("Content-Length", str(len(listing)))
            handler.end_headers()
            handler.wfile.write(listing)
            return
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        number = 0
        while not self._gone.wait(interval if number < self._most else None):
            jpeg = jpegs[number % len(jpegs)]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            handler.wfile.write(head.encode() + jpeg + b"\r\n")
            number += 1

    def close(self) -> None:
        """Drop all connections, and be gone."""
        self._gone.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def make_jpegs(ffmpeg: str) -> list[bytes]:
    """Return pictures that get brighter, as JPEGs."""
    width, height = SIZE
    grey = f"color=black:size={width}x{height}:rate=20,format=gray,geq=lum=10*(N+1)"
    command = [ffmpeg, "-loglevel", "error", "-f", "lavfi", "-i", grey, "-frames:v", str(JPEGS)]
    piped = [
        *command,
        "-c:v",
        "mjpeg",
        "-pix_fmt",
        "yuvj420p",
        "-q:v",
        "2",
        "-f",
        "image2pipe",
        "-",
    ]
    made = subprocess.run(piped, check=True, capture_output=True).stdout
    return [b"\xff\xd8" + one for one in made.split(b"\xff\xd8")[1:]]


@contextlib.contextmanager
def rtsp_server(
    port: int = 0, user: str = "", password: str = "", tls: tuple[Path, ...] = ()
) -> Iterator[RtspServer]:
    server = RtspServer(port, user, password, tls)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def mjpeg_server(
    jpegs: list[bytes],
    port: int = 0,
    interval: float = 0.04,
    tls: ssl.SSLContext | None = None,
    most: float = math.inf,
) -> Iterator[MjpegServer]:
    """Serve pictures, and after so many of them be silent."""
    server = MjpegServer(jpegs, port, interval, tls, most)
    try:
        yield server
    finally:
        server.close()


def require(program: str) -> str:
    return shutil.which(program) or pytest.skip(f"{program} is not installed")
