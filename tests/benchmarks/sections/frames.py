# SPDX-License-Identifier: MIT
"""Frames a second that a requester gets from a session whose probe goes as fast as it is read.

The stages are local processes, so the cost of a container's network is not in it. The first frames,
for which the probe has to render its cycle, are read before the clock runs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from daemons import PATIENCE, Daemon, operatord
from tables import Table

from operatord_client import Client, Tcp, open_frames

WARM_UP = 150
REFERENCE = "plain, bytes only"
ENV = {"probe": {"fps": 0}}


def measure(rounds: int, short: bool) -> list[Table]:
    """Return the rates of a plain and a segmented session, as frames and as mere bytes."""
    table = Table(
        "frames", "one session through local processes", "frames/s", REFERENCE, more_is_better=True
    )
    table.notes.append("256x256 pixels; segmented frames carry a mask of the same size as well")
    beyond = 100 if short else 3000
    with operatord("process") as daemon:
        for _ in range(rounds):
            for kind in ("plain", "segmented"):
                plain = kind == "plain"
                for how, read in (("bytes only", read_bytes), ("client's frames", _frames)):
                    table.add(f"{kind}, {how}", _session(daemon, plain, beyond, read))
    return [table]


def _session(
    daemon: Daemon, plain: bool, beyond: int, read: Callable[[str, int, int], float]
) -> float:
    count = WARM_UP + beyond
    with (
        Client(Tcp(*daemon.address)) as client,
        client.start(count=count, plain_stream=plain, env=ENV) as session,
    ):
        location = session.location
        assert location is not None
        return beyond / read(location.host, location.port, count)


def _frames(host: str, port: int, count: int) -> float:
    """Return the seconds that the frames after the warm-up took to be parsed."""
    begun = 0.0
    with open_frames(f"tcp://{host}:{port}", timeout=PATIENCE) as stream:
        for frame in stream:
            if frame.seq == WARM_UP - 1:
                begun = time.perf_counter()
        assert stream.received == count, "the stream was cut"
    return time.perf_counter() - begun


def read_bytes(host: str, port: int, count: int) -> float:
    """Return the seconds that the bytes after the warm-up took to arrive, nobody looking at them."""
    buffer, moments, total = bytearray(1 << 19), [], 0
    with socket.create_connection((host, port), PATIENCE) as sock:
        while size := sock.recv_into(buffer):
            total += size
            moments.append((time.perf_counter(), total))
    warm = total * WARM_UP / count
    begun = next(moment for moment, received in moments if received >= warm)
    return moments[-1][0] - begun
