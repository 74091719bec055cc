# SPDX-License-Identifier: MIT
"""Compare streaming.py with socat, relaying the same probe's frames over the loopback.

    python tests/benchmarks/sections/relay.py [frames] [rounds]

The probe sends 256x256 frames as fast as they are taken. Each round runs every way once, in
turn, so that whatever else the machine does meets all of them alike; medians are compared.
The clock runs from the first to the last byte at the consumer. The first frames, for which the
probe has to render its cycle, come from a sequence that is read before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

EMULATORS = Path(__file__).resolve().parents[3] / "emulators"
SIDE = 256  # pixels
WARM_UP = 150  # frames: a little more than the probe's cycle
WAYS = ("direct", "streaming", "socat", "socat -b 1048576")
DEADLINE = 60.0  # seconds for any one step


@contextlib.contextmanager
def running(*command: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process and end it, by its handle."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listening_port(process: subprocess.Popen[bytes]) -> int:
    """Return the port that a stage says it listens on."""
    assert process.stdout is not None
    port: int = json.loads(process.stdout.readline())["port"]
    return port


@contextlib.contextmanager
def a_probe(frames: int) -> Iterator[int]:
    """Run a probe whose cycle is rendered; yield its port."""
    env = {"probe_ip": "127.0.0.1", "probe_port": "0", "fps": "0", "count": str(frames)}
    size = {"width": str(SIDE), "height": str(SIDE)}
    with running(sys.executable, str(EMULATORS / "probe/probe.py"), env=env | size) as process:
        port = listening_port(process)
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
            wanted = WARM_UP * SIDE * SIDE
            while wanted > 0:
                wanted -= len(sock.recv(1 << 20))
        yield port


@contextlib.contextmanager
def a_way(way: str, upstream: int) -> Iterator[int]:
    """Run what relays from the upstream's port; yield its own port."""
    if way == "direct":
        yield upstream
    elif way == "streaming":
        env = {"probe_ip": "127.0.0.1", "probe_port": str(upstream)}
        env |= {"stream_ip": "127.0.0.1", "stream_port": "0"}
        script = str(EMULATORS / "streaming/streaming.py")
        with running(sys.executable, script, env=env) as process:
            yield listening_port(process)
    else:
        port = free_port()
        listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"
        with running(*way.split(), listen, f"TCP:127.0.0.1:{upstream}"):
            yield port


def free_port() -> int:
    """Return a port that nobody listens on, for socat, which cannot tell which it took."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def connect(port: int) -> socket.socket:
    """Connect as soon as somebody listens."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), DEADLINE)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def receive(port: int) -> tuple[int, float]:
    """Read a stream to its end; return its bytes and the seconds from the first frame to it."""
    buffer, total = bytearray(1 << 20), 0
    with connect(port) as sock:
        hello = b""
        while not hello.endswith(b"\n"):
            hello += sock.recv(1)
        begin = None
        while received := sock.recv_into(buffer):
            begin = begin or time.perf_counter()
            total += received
        assert begin is not None, "no frames"
        return total, time.perf_counter() - begin


def one_run(way: str, frames: int) -> float:
    """Return the frames a second that one way carries."""
    with a_probe(frames) as upstream, a_way(way, upstream) as port:
        total, seconds = receive(port)
    assert total > frames * SIDE * SIDE, f"{way}: the stream was cut"
    return frames / seconds


def measure(frames: int = 10_000, rounds: int = 5) -> dict[str, float]:
    """Return each way's median in frames a second, and streaming's ratios to socat's."""
    ways = [way for way in WAYS if shutil.which(way.split()[0]) or not way.startswith("socat")]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            rates[way].append(one_run(way, frames))
    result = {way: statistics.median(found) for way, found in rates.items()}
    for way in ways:
        if way.startswith("socat"):
            result[f"streaming / {way}"] = result["streaming"] / result[way]
    return result


def main(arguments: list[str]) -> None:
    """Print the table."""
    result = measure(*map(int, arguments))
    for name, value in result.items():
        unit = "" if "/" in name else f" frames/s  {value * SIDE * SIDE / 1e6:8.0f} MB/s"
        print(f"{name:28} {value:9.{2 if '/' in name else 0}f}{unit}")


if __name__ == "__main__":
    main(sys.argv[1:])
