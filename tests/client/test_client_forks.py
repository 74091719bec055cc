# SPDX-License-Identifier: MIT
"""A process that is forked has connections of its own, and the parent's go on as if nothing had been."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

import pytest
from client_stub import QUEUED, StubDaemon, golden

from operatord_client import Client, ConnectionLost


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a process that is forked now; return how it exits: 0 if all went well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_child_talks_on_a_connection_of_its_own(daemon: StubDaemon, client: Client) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    client.ping()

    def talk() -> None:
        assert client.ping().pong
        client.close()

    assert in_a_child(talk) == 0
    assert client.ping().pong, "the parent's goes on"
    ids = [daemon.asked("system.ping")["id"] for _ in range(3)]
    assert ids == [1, 1, 2], "each counts what goes out on a connection"


def test_child_takes_back_nothing_that_the_parent_has_begun(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("session.start", QUEUED)
    daemon.on("system.ping", golden("rpc: ping"))
    reports = client.start_progress()
    next(reports)

    def leave() -> None:
        with pytest.raises(ConnectionLost):
            next(reports)
        client.close()

    assert in_a_child(leave) == 0
    assert client.ping().pong
    assert [daemon.requests.get()["method"] for _ in range(2)] == ["session.start", "system.ping"]
    reports.close()


def test_locks_of_other_threads_do_not_hold_up_the_child(
    daemon: StubDaemon, client: Client
) -> None:
    daemon.on("system.ping", golden("rpc: ping"))
    connection = client._connection
    assert connection is not None
    with client._connecting, connection._lock, connection._out._writing:
        assert in_a_child(client.ping) == 0
