# SPDX-License-Identifier: MIT
"""The gate beside socat and beside the published port itself: throughput, processor time, and starts.

Bytes come from a source that does nothing but send; the reader does nothing but count. Each round has every
way once, in turn. The processor time is that of who passes the bytes on, for each GiB.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import shared_host
from certificates import Authority
from daemons import BenchFailed, cpu_seconds, scratch
from engine_api import EngineApi
from on_docker import operatord_on_docker, shipped
from relay import connect, free_port, running
from starts import Tables
from tables import Table
from warm import WarmSession, await_slots

from operatord.gate.link import PROGRAM, SOCKET

HOST = "127.0.0.1"
OPEN = b'{"type":"open","token":"bench"}\n'
SOCAT = "socat -b 1048576"
DIRECT, GATE, GATE_TLS = "published port", "gate", "gate, TLS"
GIB = 1 << 30


def measure(rounds: int, size: int) -> list[Table]:
    """Return throughput and processor time; ``size`` is the bytes of a stream."""
    speed = Table("gate", "a stream through the gate", "MB/s", SOCAT, more_is_better=True)
    cost = Table("gate.cpu", "processor time of who passes it on", "ms/GiB", SOCAT)
    speed.notes.append(
        "the reader says the token first; with TLS it decrypts, which takes a core as well"
    )
    if shutil.which("socat") is None:
        speed.reference = cost.reference = GATE
        speed.notes.append("socat is not installed")
    with a_source(size) as port, a_gate(port) as gate:
        for _ in range(rounds):
            speed.add(DIRECT, rate(port, size))
            for name, door, context in gate.ways:
                before = cpu_seconds(gate.pid)
                speed.add(name, rate(door, size, OPEN, context))
                cost.add(name, (cpu_seconds(gate.pid) - before) * 1000 * GIB / size)
            if shutil.which("socat") is not None:
                by_socat, seconds = through_socat(port, size)
                speed.add(SOCAT, by_socat)
                cost.add(SOCAT, seconds * 1000 * GIB / size)
    return [speed, cost]


@contextlib.contextmanager
def a_source(size: int) -> Iterator[int]:
    """Send so many bytes to each who connects; yield the port."""
    program = (
        "import socket\n"
        "data = bytes(1 << 20)\n"
        f"with socket.create_server(({HOST!r}, 0)) as server:\n"
        "    print(server.getsockname()[1], flush=True)\n"
        "    while True:\n"
        "        with server.accept()[0] as peer:\n"
        f"            left = {size}\n"
        "            while left:\n"
        "                left -= peer.send(data[:left])\n"
    )
    with running(sys.executable, "-c", program) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


class RunningGate(NamedTuple):
    """A gate with a door for each way, and the id of its process."""

    pid: int
    ways: list[tuple[str, int, ssl.SSLContext | None]]
    """The name, the port, and what the reader speaks TLS with."""


@contextlib.contextmanager
def a_gate(target: int) -> Iterator[RunningGate]:
    """Run a gate with doors without and with TLS."""
    with scratch() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen()
        authority = Authority(folder)
        context = ssl.create_default_context(cafile=str(authority.certificate))
        files = [str(each) for each in authority.sign("gate")]
        command = [sys.executable, "-IS", str(PROGRAM), str(folder)]
        with subprocess.Popen(command, stdin=listener.fileno()) as process:
            try:
                plain, encrypted = _opened(folder, target, None), _opened(folder, target, files)
                ways = [(GATE, plain, None), (GATE_TLS, encrypted, context)]
                yield RunningGate(process.pid, ways)
            finally:
                process.kill()


def _opened(folder: Path, target: int, tls: list[str] | None) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(folder / SOCKET))
        lines = sock.makefile("rw")
        lines.readline()
        token = hashlib.sha256(b"bench").hexdigest()
        wish: dict[str, Any] = {
            "do": "open", "door": f"s/{tls}", "listen": HOST, "port": 0, "target": [HOST, target],
            "allow": "token", "token": token, "requesters": [], "most": 8, "tls": tls,
        }  # fmt: skip
        lines.write(json.dumps(wish) + "\n")
        lines.flush()
        port: int = json.loads(lines.readline())["port"]
        return port


def rate(port: int, size: int, first: bytes = b"", context: ssl.SSLContext | None = None) -> float:
    """Read a stream to its end; return MB/s from its first byte on. Raises `BenchFailed`."""
    buffer, total = bytearray(1 << 20), 0
    with ExitStack() as stack:
        sock: socket.socket = stack.enter_context(connect(port))
        if context is not None:
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=HOST))
        sock.sendall(first)
        begun = None
        while received := sock.recv_into(buffer):
            begun = begun or time.perf_counter()
            total += received
    if begun is None or total != size:
        raise BenchFailed(f"{total} bytes came, and not {size}")
    return size / (time.perf_counter() - begun) / 1e6


def through_socat(target: int, size: int) -> tuple[float, float]:
    """Return MB/s, and the seconds of a processor, of a socat that passes one stream on."""
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind={HOST},reuseaddr"
    with subprocess.Popen([*SOCAT.split(), listen, f"TCP:{HOST}:{target}"]) as process:
        try:
            rated = rate(port, size)
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        except BaseException:
            process.kill()
            raise
    return rated, usage.ru_utime + usage.ru_stime


def measure_warm(engine: EngineApi, url: str, rounds: int) -> list[Table]:
    """Return the times of warm starts with the gate and without, at two daemons in turn."""
    tables = Tables("gate.warm", "warm start", [])
    for table in (tables.header, tables.frame):
        table.reference = DIRECT
    pipelines = {"segmented": shipped("segmented", warm=1)}
    config = {"pipelines": pipelines, "pressure": {"cpu": None}}
    by_gate = {"advertise_host": shared_host.own_address(), "streams": {"allow": "any"}}
    with ExitStack() as stack:
        daemons = {
            DIRECT: stack.enter_context(operatord_on_docker(engine, url, config)),
            GATE: stack.enter_context(operatord_on_docker(engine, url, config | by_gate)),
        }
        for place in range(rounds + 1):
            for name, daemon in daemons.items():
                for each in daemons.values():
                    await_slots(each)
                session = WarmSession(daemon, "segmented")
                try:
                    # The first start of a gate is none of its others' time.
                    (tables if place or rounds == 1 else Tables("", "", [])).add(name, session)
                finally:
                    session.stop()
    return [tables.header, tables.frame]
