# SPDX-License-Identifier: MIT
"""What operatord-camera costs beside ffmpeg alone: processor time, and the time that a frame takes.

Processor time: a recording of 1080p at 30 frames a second, at its own pace, to a consumer on a socket, of
both the adapter and its ffmpeg, from the first second on. ffmpeg alone writes raw pictures to a socket: with
the same options for decoding, converting and encoding, and as one would call it, with none.

Latency: both read one RTSP server at the same time, and each picture is known by its bytes. It is told by
how much later it has arrived whole from the adapter than from ffmpeg alone. They read by UDP: by TCP,
GStreamer's server sends one of two clients every picture a whole frame late, now this one and now that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from daemons import PATIENCE, BenchFailed
from tables import Table

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "adapters" / "camera" / "camera.py"
RTSP_SERVER = ROOT / "tests" / "rtsp_server.py"
SIZE, RATE = (1920, 1080), 30
RTSP_PICTURE = 320 * 240
FORMATS = {"gray8": ("gray", 1), "rgb24": ("rgb24", 3)}
ALONE, PLAIN, OURS = "ffmpeg alone", "ffmpeg, no options", "operatord-camera"
TRANSPORT = "udp"
Arrivals = dict[bytes, list[float]]
"""When pictures were there whole, by their digests."""
WARM_UP = 30
"""Frames before the clock runs."""


def measure(rounds: int, short: bool) -> list[Table]:
    """Return the tables; the latency only where GStreamer's RTSP server is installed."""
    if shutil.which("ffmpeg") is None:
        raise BenchFailed("ffmpeg is not installed")
    seconds = 2 if short else 8
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        file = _recording(Path(folder, "recording.mp4"), seconds + 3)
        for name in FORMATS:
            tables.append(_processor(name, file, rounds, seconds))
    return [*tables, *_latency(100 if short else 250)]


def _recording(file: Path, seconds: int) -> Path:
    """Make a recording that moves and has the noise of a real one, of about 6 Mbit/s."""
    size = "x".join(map(str, SIZE))
    source = f"testsrc2=size={size}:rate={RATE}:duration={seconds},noise=alls=4:allf=t"
    code = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-b:v",
        "6M",
        "-g",
        "30",
        "-pix_fmt",
        "yuv420p",
    ]
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, *code, str(file)]
    subprocess.run(command, check=True)
    return file


# --- processor time ---------------------------------------------------------------------------


def _processor(name: str, file: Path, rounds: int, seconds: int) -> Table:
    table = Table(
        f"camera_{name}",
        f"a recording of 1080p30 as {name}",
        "ms of a processor a frame",
        ALONE,
    )
    for _ in range(rounds):
        for way, run in ((ALONE, _alone), (PLAIN, _plain), (OURS, _adapter)):
            spent, rate = run(name, file, seconds)
            table.add(way, spent)
            if rate < 0.98 * RATE:
                table.notes.append(f"{way} had {rate:.1f} frames/s only: the machine is busy")
    return table


def _alone(name: str, file: Path, seconds: int) -> tuple[float, float]:
    return _of_ffmpeg(_tuned, name, file, seconds)


def _plain(name: str, file: Path, seconds: int) -> tuple[float, float]:
    return _of_ffmpeg(_untuned, name, file, seconds)


def _of_ffmpeg(
    options: Callable[[list[str], str], list[str]], name: str, file: Path, seconds: int
) -> tuple[float, float]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        called = options(["-re", "-i", str(file)], FORMATS[name][0])
        process = _ffmpeg(called, server.getsockname()[1])
        with server.accept()[0] as sock:
            spent = _spent(process, sock, _bytes(name), seconds)
        _end(process)
    return spent


def _adapter(name: str, file: Path, seconds: int) -> tuple[float, float]:
    process, port = _camera(f"file:{file}", pixel_format=name)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(b'{"type":"consume"}\n')
        spent = _spent(process, sock, _bytes(name), seconds)
    _end(process)
    return spent


def _bytes(name: str) -> int:
    return SIZE[0] * SIZE[1] * FORMATS[name][1]


def _spent(
    process: subprocess.Popen[bytes], sock: socket.socket, picture: int, seconds: int
) -> tuple[float, float]:
    """Read for so many seconds; return milliseconds of processor for each frame, and frames a second."""
    buffer = bytearray(1 << 20)
    _read(sock, buffer, WARM_UP * picture)
    used, begun = _used(process), time.perf_counter()
    _read(sock, buffer, seconds * RATE * picture)
    took = time.perf_counter() - begun
    return (_used(process) - used) / (seconds * RATE) * 1000, seconds * RATE / took


def _read(sock: socket.socket, buffer: bytearray, size: int) -> None:
    while size > 0:
        received = sock.recv_into(buffer)
        if not received:
            raise BenchFailed("the stream ended too early")
        size -= received


def _used(process: subprocess.Popen[bytes]) -> float:
    """Return the seconds of processor of a process and its children."""
    found = psutil.Process(process.pid)
    times = [each.cpu_times() for each in (found, *found.children(recursive=True))]
    return sum(each.user + each.system for each in times)


# --- latency ----------------------------------------------------------------------------------


def _latency(frames: int) -> list[Table]:
    table = Table("camera_latency", "a frame of RTSP, after ffmpeg alone", "ms", OURS, paired=False)
    with _rtsp_server() as url:
        if url is None:
            table.notes.append("not measured: gir1.2-gst-rtsp-server-1.0 is not installed")
            return [table]
        seen = _both(url, frames)
    later = [ours - alone for alone, ours in seen]
    if len(later) < frames / 2:
        raise BenchFailed(f"only {len(later)} pictures came both ways")
    table.add(OURS, *(1000 * each for each in later))
    middle = statistics.median(later) * 1000
    table.notes.append(f"pictures of 320x240, MJPEG, 25 frames/s; median {middle:.1f} ms")
    return [table]


@contextlib.contextmanager
def _rtsp_server() -> Iterator[str | None]:
    command = ["/usr/bin/python3", "-I", str(RTSP_SERVER), "0", "", ""]
    pipe, silent = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=silent) as server:
        assert server.stdout
        port = server.stdout.readline().decode().strip()
        try:
            yield f"rtsp://127.0.0.1:{port}/camera" if port else None
        finally:
            server.kill()


def _both(url: str, frames: int) -> list[tuple[float, float]]:
    """Read a URL both ways; return when each picture was there, of those that came both ways."""
    alone: Arrivals = {}
    ours: Arrivals = {}
    camera, port = _camera(url, rtsp_transport=TRANSPORT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = ["-rtsp_transport", TRANSPORT, "-i", url]
        ffmpeg = _ffmpeg(_tuned(given, "gray"), server.getsockname()[1])
        first = server.accept()[0]
    second = socket.create_connection(("127.0.0.1", port), PATIENCE)
    second.sendall(b'{"type":"consume"}\n')
    with first, second:
        threads = [
            threading.Thread(target=_raw_pictures, args=(first, alone, frames)),
            threading.Thread(target=_framed_pictures, args=(second, ours, frames)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    _end(camera)
    _end(ffmpeg)
    # The ball comes by the same place again: such a picture may be another one.
    once = [each for each in ours if len(ours[each]) == len(alone.get(each, ())) == 1]
    # The first pictures wait in ffmpeg for the rate to be found out.
    return [(alone[each][0], ours[each][0]) for each in once[WARM_UP:]]


def _raw_pictures(sock: socket.socket, found: Arrivals, frames: int) -> None:
    with sock.makefile("rb") as stream:
        for _ in range(frames):
            _note(stream.read(RTSP_PICTURE), found)


def _framed_pictures(sock: socket.socket, found: Arrivals, frames: int) -> None:
    with sock.makefile("rb") as stream:
        stream.readline()  # the hello
        for _ in range(frames):
            header = json.loads(stream.readline())
            _note(stream.read(header["parts"][0]["bytes"]), found)


def _note(picture: bytes, found: Arrivals) -> None:
    now = time.perf_counter()
    found.setdefault(hashlib.sha1(picture, usedforsecurity=False).digest(), []).append(now)


# --- programs ---------------------------------------------------------------------------------


def _tuned(source: list[str], pixels: str) -> list[str]:
    """Return the options of ffmpeg that the adapter gives it."""
    threads = ["-threads", str(min(4, len(os.sched_getaffinity(0))))]
    convert = ["-map", "0:v:0", "-filter_threads", "1", "-vf", f"format={pixels}"]
    return [*threads, *source, *convert, "-fps_mode", "passthrough", "-threads:v", "1"]


def _untuned(source: list[str], pixels: str) -> list[str]:
    return [*source, "-pix_fmt", pixels]


def _ffmpeg(options: list[str], port: int) -> subprocess.Popen[bytes]:
    """Start ffmpeg alone: raw pictures to a socket."""
    quiet = ["-hide_banner", "-nostats", "-nostdin", "-loglevel", "error"]
    write = ["-c:v", "rawvideo", "-f", "rawvideo", f"tcp://127.0.0.1:{port}"]
    whole = ["ffmpeg", *quiet, *options, *write]
    return subprocess.Popen(whole, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _camera(url: str, **env: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the adapter; return it and its port."""
    settings = {"source_url": url, "probe_ip": "127.0.0.1", "probe_port": "0", **env}
    process = subprocess.Popen(
        [sys.executable, "-s", str(SCRIPT)],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout
    port = json.loads(process.stdout.readline())["port"]
    threading.Thread(target=process.stdout.read, daemon=True).start()  # its reports
    return process, port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(PATIENCE)
