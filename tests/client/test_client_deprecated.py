# SPDX-License-Identifier: MIT
"""Names that were given up do for one more version, and say which are to be used."""

from __future__ import annotations

import pytest
from client_stub import EVENT, LOG, SESSION_ID, StubDaemon, golden

from operatord_client import Client, feeds


def test_feeds_of_a_connection_of_the_caller_s(daemon: StubDaemon, client: Client) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT)
    daemon.on("session.logs", golden("rpc: logs, followed"), LOG)
    with pytest.warns(DeprecationWarning, match=r"open_events is deprecated: use feeds\.event_feed"):
        events = feeds.open_events(client._open(), {}, None)
    with pytest.warns(DeprecationWarning, match=r"open_log is deprecated: use feeds\.log_feed"):
        lines = feeds.open_log(client._open(), {"session_id": SESSION_ID}, None)
    with events, lines:
        assert next(events).type == "session.running"
        assert next(lines).line
