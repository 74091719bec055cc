# SPDX-License-Identifier: MIT
"""Names that were given up do for one more version, and say which are to be used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client_stub import EVENT, LOG, SESSION_ID, StreamServer, StubDaemon, golden, stream_of

from operatord_client import Client, async_frames, feeds


def test_feeds_of_a_connection_of_the_caller_s(daemon: StubDaemon, client: Client) -> None:
    daemon.on("events.subscribe", golden("rpc: subscribed"), EVENT)
    daemon.on("session.logs", golden("rpc: logs, followed"), LOG)
    with pytest.warns(
        DeprecationWarning, match=r"open_events is deprecated: use feeds\.event_feed"
    ):
        events = feeds.open_events(client._open(), {}, None)
    with pytest.warns(DeprecationWarning, match=r"open_log is deprecated: use feeds\.log_feed"):
        lines = feeds.open_log(client._open(), {"session_id": SESSION_ID}, None)
    with events, lines:
        assert next(events).type == "session.running"
        assert next(lines).line


async def test_frames_for_asyncio_by_the_names_of_the_blocking_ones(
    serve: Callable[..., StreamServer],
) -> None:
    address = serve(stream_of(2)).address
    with pytest.warns(DeprecationWarning, match="open_frames is deprecated: use async_open_frames"):
        stream = async_frames.open_frames(address)
    async with stream:
        assert len([frame async for frame in stream]) == 2
    with pytest.warns(DeprecationWarning, match="open_raw is deprecated: use async_open_raw"):
        opening = async_frames.open_raw(address)
    reader, writer = await opening
    assert await reader.read() == stream_of(2)
    writer.close()
    await writer.wait_closed()
