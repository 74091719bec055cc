# SPDX-License-Identifier: MIT
"""What TLS and a login cost afterwards: pings on a connection that has both, beside one that has neither.

Each has a daemon of its own, on one core, in turn; the load has another core and decrypts there.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from certificates import Authority
from control import AHEAD, BATCH, Load, core_for_servers
from daemons import PATIENCE, BenchFailed, Daemon, log_in, operatord, operatord_in, scratch
from tables import Table

from operatord.access import tokens

PLAIN, TLS = "plain", "TLS, logged in"
ALSO = re.compile(rb"listening on (\S+):(\d+), TLS")


class Guarded(NamedTuple):
    """A daemon that asks for a token, on TLS as well."""

    daemon: Daemon
    tls: tuple[str, int]
    ca: Path
    token: str

    def connect(self) -> ssl.SSLSocket:
        """Return a connection with TLS that has logged in."""
        context = ssl.create_default_context(cafile=str(self.ca))
        sock = socket.create_connection(self.tls, PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = context.wrap_socket(sock, server_hostname=self.tls[0])
        log_in(secure, self.token)
        return secure


@contextlib.contextmanager
def guarded(folder: Path, engine: str, config: dict[str, Any] | None = None) -> Iterator[Guarded]:
    """Run a daemon with tokens and TLS."""
    authority = Authority(folder)
    cert, key = map(str, authority.sign("daemon"))
    _, token = tokens.new(folder / "tokens", "bench", "operator", "2026-11-30T00:00:00Z")
    listener = {"address": "127.0.0.1:0", "auth": "token", "tls": {"cert": cert, "key": key}}
    more = {"auth": {"tokens": str(folder / "tokens")}, "listeners": [listener]}
    state = folder / "state"
    state.mkdir(0o700)
    with operatord_in(state, engine, {**(config or {}), **more}) as daemon:
        deadline = time.monotonic() + PATIENCE
        while (found := ALSO.search(daemon.log.read_bytes())) is None:
            if time.monotonic() > deadline:
                raise BenchFailed("the daemon does not listen with TLS")
            time.sleep(0.01)
        tls = found[1].decode(), int(found[2])
        yield Guarded(daemon, tls, authority.certificate, token)


def measure(rounds: int, short: bool) -> list[Table]:
    """Return rates of both, round about."""
    singles, batches = (50, 20) if short else (1000, 200)
    rate = Table("control.tls-unpipelined", "system.ping, one at a time", "requests/s", PLAIN)
    pairs = Table("control.tls-batches", f"system.ping, {BATCH} at a time", "requests/s", PLAIN)
    flood = Table(
        "control.tls-saturated", f"system.ping, {AHEAD} × {BATCH} ahead", "requests/s", PLAIN
    )
    tables = [rate, pairs, flood]
    for table in tables:
        table.more_is_better = True
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(core_for_servers())
        plain = stack.enter_context(operatord("process"))
        secure = stack.enter_context(guarded(stack.enter_context(scratch()), "process"))
        os.sched_setaffinity(0, own)
        loads = {PLAIN: Load.connect(plain.address), TLS: Load(secure.connect())}
        for load in loads.values():
            stack.enter_context(contextlib.closing(load))
            load.batches(batches, AHEAD)
        for _ in range(rounds):
            for name, load in loads.items():
                rate.add(name, singles / sum(load.one_by_one(singles)))
                pairs.add(name, load.batches(batches, 1))
                flood.add(name, load.batches(batches, AHEAD))
    return tables
