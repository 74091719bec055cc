# SPDX-License-Identifier: MIT
"""A start that is interrupted, at whatever moment, goes on for nobody.

Not by timing: a profile function raises `KeyboardInterrupt` at every moment at which Python itself would, one
after another, which is on entering a function and on the return of one that is written in C. For asyncio,
every await is cancelled, before what it waits for has come and after.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from client_stub import QUEUED, SESSION_ID, STARTED, Item, StubDaemon, golden
from daemon_lab import PATIENCE

from operatord_client import AsyncClient, Client
from operatord_client._transport.connection import Connection
from operatord_client._transport.core import Core
from operatord_client._transport.outgoing import Outgoing
from operatord_client.errors import ConnectionLost

MOMENTS = ("call", "c_return")
"""Where CPython looks whether a signal has come, loops apart."""
MOST = 2000
"""Moments of one start; far fewer than these are met."""


class Interrupter:
    """Raises `KeyboardInterrupt` at one moment of what runs below it in this thread.

    No garbage is collected meanwhile: that of other tests has finalisers, whose moments are not the client's.
    """

    def __init__(self, moment: int) -> None:
        self._left = moment
        self.done = False

    def __enter__(self) -> Interrupter:
        gc.disable()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(None)
        gc.enable()

    def _profile(self, frame: types.FrameType, event: str, _: object) -> None:
        if event not in MOMENTS or frame.f_code in OWN:
            return
        self._left -= 1
        if self._left < 0 and not self.done:
            self.done = True
            sys.setprofile(None)
            raise KeyboardInterrupt


OWN = (Interrupter.__enter__.__code__, Interrupter.__exit__.__code__)
"""What is not interrupted, or the garbage collector would stay off."""


def every_moment(attempt: Callable[[Interrupter], None]) -> int:
    """Have ``attempt`` interrupted at its first moment, at its second, and so on; return how many it has."""
    for moment in range(MOST):
        interrupter = Interrupter(moment)
        attempt(interrupter)
        if not interrupter.done:
            return moment
    raise AssertionError("it has no end")


def requests_of(daemon: StubDaemon) -> list[dict[str, Any]]:
    """Return what has been asked since the last call, up to a ping that comes last."""
    found = []
    while (request := daemon.requests.get(timeout=PATIENCE))["method"] != "system.ping":
        found.append(request)
    return found


def taken_back(requests: list[dict[str, Any]]) -> bool:
    """Tell whether a start among ``requests`` was taken back in the end, if there is one."""
    starts = [request for request in requests if request["method"] == "session.start"]
    if not starts:
        return True  # it was interrupted before
    [start] = starts
    later = requests[requests.index(start) + 1 :]
    wanted = [("request.cancel", {"id": start["id"]}), ("session.stop", {"session_id": SESSION_ID})]
    return any((each["method"], each["params"]) in wanted for each in later)


@pytest.fixture
def quick(daemon: StubDaemon) -> StubDaemon:
    """A daemon that starts sessions at once, and sometimes answers a request that is taken back."""
    daemon.on("session.start", QUEUED, STARTED)
    daemon.on("system.ping", golden("rpc: ping"))
    return daemon


@pytest.mark.parametrize("lease", ["pinned", "connection"])
def test_start_that_is_interrupted_at_any_moment_is_taken_back(
    quick: StubDaemon, lease: Any
) -> None:
    """S1: between writing and protection, in the middle of the answer, and on its way to the caller."""

    def attempt(interrupter: Interrupter) -> None:
        with Client(quick.address, timeout=PATIENCE) as client:
            client.connect()
            with suppress(KeyboardInterrupt), interrupter:
                client.start(lease=lease, on_progress=lambda _: None)
            client.ping()  # which reads what has crossed the interrupt
            other = threading.Thread(target=client.ping)
            other.start()
            other.join(PATIENCE)
            assert not other.is_alive(), "whoever was interrupted still reads for all"
        requests = requests_of(quick) + requests_of(quick)
        assert taken_back(requests) is interrupter.done

    assert every_moment(attempt) > 50


def test_iterator_of_a_start_is_taken_back_whenever_it_is_interrupted(quick: StubDaemon) -> None:
    """S1: `start_progress` goes through the same moments."""

    def attempt(interrupter: Interrupter) -> None:
        with Client(quick.address, timeout=PATIENCE) as client:
            client.connect()
            progress = client.start_progress()
            with suppress(KeyboardInterrupt), interrupter:
                next(progress)
            progress.close()
            client.ping()
            assert taken_back(requests_of(quick))

    assert every_moment(attempt) > 30


def test_closing_a_client_takes_back_what_another_thread_has_begun(daemon: StubDaemon) -> None:
    """N2: whoever closes the client wants nothing more of it."""
    daemon.on("session.start", QUEUED)
    client = Client(daemon.address)
    lost: list[BaseException] = []

    def begin() -> None:
        try:
            client.start(lease="pinned")
        except ConnectionLost as exc:
            lost.append(exc)

    starter = threading.Thread(target=begin)
    starter.start()
    request = daemon.asked("session.start")
    client.close()
    starter.join(PATIENCE)
    assert len(lost) == 1
    assert daemon.asked("request.cancel")["params"] == {"id": request["id"]}


def test_closing_takes_back_while_the_thread_that_began_still_holds_the_lock() -> None:
    """N2: its line has gone out, but it has not got its turn since, as on a busy machine."""
    ours, peer = socket.socketpair()
    with peer:
        out = Outgoing(LateSender(ours, late := threading.Event()))  # type: ignore[arg-type]
        out._writing = ToldOfFailure(late)  # type: ignore[assignment]
        starter = threading.Thread(target=out.put, args=(b"start\n",))
        starter.start()
        assert peer.recv(100) == b"start\n"
        out.put_last(b"cancel\n")
        starter.join(PATIENCE)
        assert peer.recv(100) == b"cancel\n"
        assert peer.recv(100) == b""


def test_closing_does_not_wait_for_a_peer_that_does_not_read() -> None:
    ours, peer = socket.socketpair()
    with peer:
        out = Outgoing(ours)
        writer = threading.Thread(target=out.put, args=(bytes(1 << 22),))
        writer.start()
        while select.select([], [ours], [], 0)[1]:
            threading.Event().wait(0.001)
        out.put_last(b"cancel\n")
        writer.join(PATIENCE)
        assert not writer.is_alive()
        assert ours.fileno() == -1


class LosesDescriptor:
    """A socket whose descriptor is a stranger's as soon as it is closed.

    In one step: were it free in between, another thread's next socket could have it.
    """

    def __init__(self, sock: socket.socket, stranger: socket.socket) -> None:
        self._socket = sock
        self._stranger = stranger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def close(self) -> None:
        os.dup2(self._stranger.fileno(), self._socket.detach())


class LateSender:
    """A socket whose sender goes on, after a line has gone out, only when it is allowed to."""

    def __init__(self, sock: socket.socket, late: threading.Event) -> None:
        self._socket = sock
        self._late = late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send(self, data: bytes) -> int:
        sent = self._socket.send(data)
        if data == b"start\n":
            assert self._late.wait(PATIENCE)
        return sent


class ToldOfFailure:
    """A lock that lets it be known when somebody did not get it at once."""

    def __init__(self, failed: threading.Event) -> None:
        self._lock = threading.Lock()
        self._failed = failed

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        self._failed.set()
        return blocking and self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_who_is_about_to_read_while_another_thread_closes_does_not_wait_for_a_stranger(
    daemon: StubDaemon,
) -> None:
    """N2: the descriptor that was given up is that of another socket at once, and nothing comes there."""
    connection = Connection.open(Client(daemon.address).address, PATIENCE)
    descriptor = connection._socket.fileno()
    stranger, peer = socket.socketpair()
    with peer, stranger:
        connection._out = Outgoing(LosesDescriptor(connection._socket, stranger))  # type: ignore[arg-type]
        connection.close()
        reader = threading.Thread(target=connection._read, args=(None,))
        reader.start()
        reader.join(PATIENCE)
        waits = reader.is_alive()
    os.close(descriptor)
    reader.join(PATIENCE)
    assert not waits


def test_nobody_sees_the_end_before_all_calls_are_taken_back(
    daemon: StubDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N2: who would, and takes its call back itself, might do so when the connection is closed already."""
    connection = Connection.open(Client(daemon.address).address, PATIENCE)
    alone: list[bool] = []
    abandon_all = Core.abandon_all

    def look(core: Core) -> bytes:
        alone.append(core.lost is not None and connection._lock.locked())
        return abandon_all(core)

    monkeypatch.setattr(Core, "abandon_all", look)
    connection.close()
    assert alone == [True]


# --- asyncio ------------------------------------------------------------------------------------------


@types.coroutine
def cancelled_at(
    work: Coroutine[Any, Any, Any], step: int, late: bool
) -> Generator[Any, Any, tuple[bool, Any]]:
    """Run ``work`` and cancel it at its ``step``-th await; return whether it came so far, and its result.

    With ``late``, what is awaited has come when the cancellation does.
    """
    awaitable = work.__await__()
    reached = 0
    try:
        waits_for = next(awaitable)
        while True:
            cancel = reached == step
            reached += 1
            if not cancel or late:
                yield waits_for
            waits_for = awaitable.throw(asyncio.CancelledError()) if cancel else next(awaitable)
    except StopIteration as exc:
        return False, exc.value
    except asyncio.CancelledError:
        return True, None


@pytest.fixture
async def asked_of(quick: StubDaemon) -> AsyncIterator[Callable[[], Any]]:
    """Return what returns the requests up to a ping."""
    yield lambda: asyncio.to_thread(requests_of, quick)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_start_that_is_cancelled_at_any_await_is_taken_back(
    quick: StubDaemon, asked_of: Callable[[], Any], late: bool
) -> None:
    """S1: whether or not the answer was there already."""
    for step in range(MOST):
        async with AsyncClient(quick.address, timeout=PATIENCE) as client:
            cancelled, session = await cancelled_at(client.start(lease="pinned"), step, late)
            await client.ping()  # which reads what has crossed the cancellation
            await client.ping()
        requests = await asked_of()
        requests += await asked_of()
        if not cancelled:
            assert session.id == SESSION_ID
            assert step > 0
            return
        assert taken_back(requests)
    raise AssertionError("it has no end")


async def test_closing_an_async_client_takes_back_what_is_being_started(
    daemon: StubDaemon,
) -> None:
    """N2: of twelve starts at once one fails, and the rest are not left to go on for nobody."""
    refused = iter([golden("error: no such session")])

    def answer(_: dict[str, Any]) -> Iterator[Item]:
        yield from refused

    daemon.on("session.start", answer)
    with pytest.raises(Exception, match="there is no session"):
        async with AsyncClient(daemon.address) as client:
            await asyncio.gather(*(client.start(lease="pinned") for _ in range(12)))
    ids = {
        (await asyncio.to_thread(daemon.asked, "request.cancel"))["params"]["id"] for _ in range(11)
    }
    assert ids == set(range(2, 13))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        with suppress(ConnectionLost):
            await task
