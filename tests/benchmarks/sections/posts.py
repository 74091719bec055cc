# SPDX-License-Identifier: MIT
"""HTTP beside the socket: a warm start by ``POST /post/`` beside the seed line, and a ping each way.

Both are asked by bare sockets, whose connection is there already: what is measured is the daemon and its
gateway, and no client.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from daemons import REPLY, BenchFailed, Daemon, operatord, until_said
from engine_api import EngineApi
from on_docker import operatord_on_docker, shipped
from tables import Table
from warm import await_slots

SOCKET, HTTP = "seed line", "POST /post/"
LISTENING = re.compile(rb"listening on http://([0-9.]+):([0-9]+)")
WITH_HTTP = {"http": {"listen": "127.0.0.1:0"}, "pressure": {"cpu": None}}
START = {"count": 1000, "plain_stream": False}


class Line:
    """A connection to the socket."""

    def __init__(self, daemon: Daemon) -> None:
        self._sock = socket.create_connection(daemon.address, REPLY)
        self._file = self._sock.makefile("rb")

    def start(self) -> str:
        """Return the id of the session that the seed line starts."""
        self._sock.sendall(json.dumps(START).encode() + b"\n")
        return _session(self._file.readline())

    def ping(self) -> None:
        self._sock.sendall(b'{"method":"system.ping"}\n')
        self._file.readline()

    def close(self) -> None:
        self._file.close()
        self._sock.close()


class Request:
    """A connection to the gateway."""

    def __init__(self, daemon: Daemon) -> None:
        found = until_said(daemon, LISTENING)
        address = found[1].decode(), int(found[2])
        self._host = f"{address[0]}:{address[1]}"
        self._sock = socket.create_connection(address, REPLY)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb")

    def start(self) -> str:
        """Return the id of the session that the original's request starts."""
        return _session(self._ask("/post/", json.dumps(START).encode() + b"\n"))

    def ping(self) -> None:
        self._ask("/api/v1/system.ping", b"{}")

    def _ask(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if b" 200 " not in (said := self._file.readline()):
            raise BenchFailed(f"{path}: {said.decode()}")
        length = 0
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return self._file.read(length)

    def close(self) -> None:
        self._file.close()
        self._sock.close()


def _session(answer: bytes) -> str:
    said = json.loads(answer)
    if "error" in said:
        raise BenchFailed(said["error"]["message"])
    if not said["warm"]:
        raise BenchFailed("a start that should find a slot was a cold one")
    return str(said["session_id"])


def measure(engine: EngineApi, url: str, rounds: int) -> list[Table]:
    """Return the times of warm starts each way, in turn."""
    table = Table("post", "a warm start until its answer", "ms", SOCKET)
    table.notes.append("one daemon; all slots are ready before each start")
    config = {**WITH_HTTP, "pipelines": {"segmented": shipped("segmented", warm=1)}}
    with ExitStack() as stack:
        daemon = stack.enter_context(operatord_on_docker(engine, url, config))
        ways = {SOCKET: Line(daemon), HTTP: Request(daemon)}
        for way in ways.values():
            stack.callback(way.close)
            way.ping()
        for _ in range(rounds):
            for name, way in ways.items():
                await_slots(daemon)
                table.add(name, _timed(way.start, daemon))
    return [table]


def _timed(start: Callable[[], str], daemon: Daemon) -> float:
    """Return the milliseconds until a start is answered; its session is gone afterwards."""
    begun = time.perf_counter()
    session = start()
    took = time.perf_counter() - begun
    daemon.call("session.stop", session_id=session)
    return took * 1000


def measure_pings(rounds: int, pings: int) -> list[Table]:
    """Return the times of pings each way, ``pings`` in a row in each round."""
    table = Table("post.ping", "system.ping, one after the other", "us", "socket")
    table.notes.append("by HTTP each request has a connection of its own from gateway to daemon")
    with ExitStack() as stack:
        daemon = stack.enter_context(operatord("process", WITH_HTTP))
        ways = {"socket": Line(daemon), "POST /api/v1/system.ping": Request(daemon)}
        for way in ways.values():
            stack.callback(way.close)
            way.ping()
        for _ in range(rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                for _ in range(pings):
                    way.ping()
                table.add(name, (time.perf_counter() - begun) / pings * 1e6)
    return [table]
