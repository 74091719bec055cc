# SPDX-License-Identifier: MIT
"""What it costs to serve OpenIGTLink: cores for 60 pictures of 512×512 a second, and the most of them.

The adapter is a local process on one core. Upstream and reader are this process; the reader takes bytes, and
looks for the last picture among them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from daemons import PATIENCE, BenchFailed
from tables import Table

ROOT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"
SIDE, RATE = 512, 60
SIZE = SIDE * SIDE
STREAM, PICTURES, MASKS = "stream format, relayed", "OpenIGTLink", "OpenIGTLink, with masks"


class Stage(NamedTuple):
    """A program, what it calls its two ends, and the parts of the frames that it is sent."""

    script: str
    upstream: str
    own: str
    parts: tuple[str, ...]


OUT = "adapters/openigtlink-out/openigtlink_out.py", "segmentation", "openigtlink"
STAGES = {
    STREAM: Stage("emulators/streaming/streaming.py", "probe", "stream", ("image",)),
    PICTURES: Stage(*OUT, ("image",)),
    MASKS: Stage(*OUT, ("image", "mask")),
}
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds of processor time: the kernel counts no less, and there is no ratio to nothing."""


class Cost(NamedTuple):
    """What a stream took."""

    cores: float
    rate: float


def measure(rounds: int, short: bool) -> list[Table]:
    """Return the cores that a paced stream takes, and the pictures a second of one that is not paced."""
    cores = Table("openigtlink.cores", f"{RATE} pictures of 512x512 a second", "cores", STREAM)
    most = Table(
        "openigtlink", "pictures of 512x512 on one core", "frames/s", STREAM, more_is_better=True
    )
    count = 30 if short else 600
    for _ in range(rounds):
        for row, stage in STAGES.items():
            cores.add(row, _cost(stage, count, 1 / RATE).cores)
            most.add(row, _cost(stage, count, 0.0).rate)
    cores.notes.append("processor time of the stage, by the seconds that the stream took")
    most.notes.append(f"target of OpenIGTLink: at least {RATE}; its checksum is CRC-64, in C")
    return [cores, most]


def _cost(stage: Stage, count: int, pause: float) -> Cost:
    """Return what a stream of so many frames took, from the first bytes at the reader to the end."""
    with socket.create_server((HOST, 0)) as server:
        sending = threading.Thread(target=_send, args=(server, stage, count, pause))
        sending.start()
        with _running(stage, server.getsockname()[1]) as (process, port):
            cost = _read(process, port, count)
        sending.join(PATIENCE)
    return cost


def _picture(seq: int) -> bytes:
    return bytes((seq + at) % 256 for at in range(256)) * (SIZE // 256)


def _send(server: socket.socket, stage: Stage, count: int, pause: float) -> None:
    size = {"width": SIDE, "height": SIDE, "fps": 0, "count": count}
    parts = [{"name": name, "bytes": SIZE} for name in stage.parts]
    pictures = [_picture(seq) for seq in range(8)]
    with server.accept()[0] as sock:
        sock.sendall(_line({"type": "hello", "stream": stage.upstream, **size}))
        due = time.perf_counter()
        for seq in range(count):
            due += pause
            time.sleep(max(0.0, due - time.perf_counter()) if pause else 0.0)
            head = _line({"type": "frame", "seq": seq, "pts": seq / RATE, "parts": parts})
            sock.sendall(head + pictures[seq % 8] * len(parts))
        sock.sendall(_line({"type": "end", "frames": count, "dropped": 0}))
        sock.recv(1)


def _line(said: dict[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


@contextmanager
def _running(stage: Stage, upstream: int) -> Iterator[tuple[psutil.Process, int]]:
    """Run a stage on the last core; give its process, and the port that it listens on."""
    ends = {f"{stage.upstream}_ip": HOST, f"{stage.upstream}_port": str(upstream)}
    own = {f"{stage.own}_ip": HOST, f"{stage.own}_port": "0"}
    command = [sys.executable, "-Es", str(ROOT / stage.script)]
    with subprocess.Popen(
        command, env={**os.environ, **ends, **own}, stdout=subprocess.PIPE
    ) as ran:
        try:
            process = psutil.Process(ran.pid)
            process.cpu_affinity([max(os.sched_getaffinity(0))])
            assert ran.stdout is not None
            yield process, json.loads(ran.stdout.readline())["port"]
        finally:
            ran.kill()


def _read(process: psutil.Process, port: int, count: int) -> Cost:
    """Read a stream to its end. Raises `BenchFailed` if its last picture is not in it, bit by bit."""
    last: deque[bytes] = deque(maxlen=64)
    with socket.create_connection((HOST, port), PATIENCE) as sock:
        sock.sendall(b'{"type":"consume"}\n')
        last.append(sock.recv(1 << 18))
        begun, before = time.perf_counter(), sum(process.cpu_times()[:2])
        while data := sock.recv(1 << 18):
            last.append(data)
            ended, after = time.perf_counter(), sum(process.cpu_times()[:2])
    if _picture((count - 1) % 8) not in b"".join(last):
        raise BenchFailed("the last picture did not come as it was sent")
    return Cost(max(after - before, TICK) / (ended - begun), count / (ended - begun))
