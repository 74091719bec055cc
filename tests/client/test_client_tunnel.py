# SPDX-License-Identifier: MIT
"""TLS of the blocking client, where the other end does not speak it or does not read."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from operatord_client import Client, Tls
from operatord_client._transport import tunnel
from operatord_client.errors import DaemonUnreachable

MANY = 3


class Stuck(socket.socket):
    """An encrypted socket whose other end reads nothing."""

    def pending(self) -> int:
        return 0

    def recv(self, *args: int) -> bytes:
        try:
            return super().recv(*args)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None

    def send(self, *_: object) -> int:
        raise ssl.SSLWantWriteError


@contextlib.contextmanager
def stuck_tunnel() -> Iterator[None]:
    ours, far = socket.socketpair()
    inner, plain = socket.socketpair()
    with far, plain:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65536)
        plain.sendall(b"what is never read")
        made = tunnel.Tunnel(Stuck(fileno=ours.detach()), inner)  # type: ignore[arg-type]
        yield
        far.close()  # it can be written to now, and is at its end
        made._thread.join()


def test_end_of_the_program_waits_once_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    join = threading.Thread.join

    def noted(thread: threading.Thread, timeout: float | None = None) -> None:
        if timeout is not None:
            waits.append(timeout)
        join(thread, timeout)

    monkeypatch.setattr(tunnel, "FAREWELL", 0.05)
    monkeypatch.setattr(threading.Thread, "join", noted)
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(stuck_tunnel())
        tunnel._finish_all()
        assert len(waits) >= MANY
        assert sum(waits) < MANY * 0.05


def test_port_without_tls_is_named_as_one() -> None:
    def answer() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1 << 16)
            peer.sendall(b'{"error":{}}\n')

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(DaemonUnreachable, match="does not speak TLS: leave out tls://"):
                Client(Tls(*listener.getsockname())).ping()
        finally:
            thread.join()
