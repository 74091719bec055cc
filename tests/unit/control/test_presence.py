# SPDX-License-Identifier: MIT
"""Whoever half-closes and whoever leaves are told apart by what is sent to them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from operatord.control.wire.presence import KEEPALIVE, Presence, notice_dead_peers


class Looked:
    """A half-closed connection that is looked after, by a clock that only `fire` lets go on."""

    def __init__(self, *, busy: bool = True, waiting: int = 0, error: int = 0) -> None:
        self.written: list[bytes] = []
        self.aborted = False
        self.due: list[Callable[[], None]] = []
        sock = SimpleNamespace(getsockopt=lambda *_: error)
        transport: Any = SimpleNamespace(
            is_closing=lambda: False,
            get_write_buffer_size=lambda: waiting,
            get_extra_info=lambda _: sock,
            write=self.written.append,
            abort=self._abort,
        )
        self.presence = Presence(transport, lambda: busy)
        loop: Any = SimpleNamespace(call_later=self._later)
        self.presence._loop = loop
        self.presence.watch()

    def _abort(self) -> None:
        self.aborted = True

    def _later(self, seconds: float, callback: Callable[[], None]) -> Any:
        self.due.append(callback)
        return SimpleNamespace(cancel=lambda: self.due.remove(callback))

    def fire(self) -> None:
        """Let the next thing happen that is to."""
        self.due.pop(0)()


async def test_who_is_there_is_asked_again_and_again() -> None:
    """A2"""
    looked = Looked()
    for _ in range(6):
        looked.fire()
    assert looked.written == [b" "] * 3
    assert not looked.aborted
    looked.presence.end()
    assert not looked.due


async def test_who_has_reset_the_connection_is_given_up() -> None:
    """A2: the reset is all that comes of one that has gone."""
    looked = Looked(error=errno.ECONNRESET)
    looked.fire()
    looked.fire()
    assert looked.aborted
    assert not looked.due


async def test_nobody_is_asked_to_whom_nothing_is_due() -> None:
    """A2: a connection that has been answered ends by itself."""
    looked = Looked(busy=False)
    looked.fire()
    assert looked.written == []
    assert not looked.due


async def test_what_waits_to_be_read_knocks_as_well() -> None:
    """A2: more and more blanks would pile up before one who does not read."""
    looked = Looked(waiting=1, error=errno.EPIPE)
    looked.fire()
    assert looked.written == []
    looked.fire()
    assert looked.aborted


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_system_asks_after_silent_peers(family: socket.AddressFamily) -> None:
    """A2: one whose link is gone, or whose machine, sends no reset."""
    with socket.socket(family) as sock:
        notice_dead_peers(sock)
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tuple(sock.getsockopt(socket.IPPROTO_TCP, name) for name in names) == KEEPALIVE


def test_unix_peers_are_left_to_the_system() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        notice_dead_peers(sock)
