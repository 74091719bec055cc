# SPDX-License-Identifier: MIT
"""JSON-RPC libraries of others drive the daemon, unchanged."""

from __future__ import annotations

import json
import socket
from typing import Any

import aiorpcx
import jsonrpcclient
import pytest
from daemon_lab import PATIENCE, Lab


async def test_aiorpcx_with_newline_framing(lab: Lab) -> None:
    notes: list[Any] = []

    class Session(aiorpcx.RPCSession):
        def default_connection(self) -> aiorpcx.JSONRPCConnection:
            return aiorpcx.JSONRPCConnection(aiorpcx.JSONRPCv2)

        async def handle_request(self, request: Any) -> None:
            notes.append((request.method, request.args))

    async with aiorpcx.connect_rs(*lab.address, session_factory=Session) as client:
        assert (await client.send_request("system.ping", {}))["pong"] is True
        await client.send_request("events.subscribe", {"types": ["session.ended"]})
        session = await client.send_request("session.start", {"count": 5})
        assert session["phase"] == "running"
        params = {"session_id": session["session_id"]}
        assert (await client.send_request("session.stop", params))["outcome"] == "stopped"
        with pytest.raises(aiorpcx.RPCError) as caught:
            await client.send_request("session.start", {"count": 0})
        assert caught.value.code == -32602
        await client.send_notification("system.ping", {})
        assert (await client.send_request("system.status", {}))["sessions"]["ended"] == 1
    methods = [method for method, _ in notes]
    assert "session.progress" in methods
    assert methods[-1] == "event"


def exchange(sock: socket.socket, lines: Any, request: dict[str, Any]) -> Any:
    sock.sendall(json.dumps(request).encode() + b"\n")
    while "method" in (message := json.loads(lines.readline())):
        pass
    return jsonrpcclient.parse(message)


async def test_jsonrpcclient_over_a_plain_socket(lab: Lab) -> None:
    import asyncio

    def drive() -> None:
        with socket.create_connection(lab.address, PATIENCE) as sock, sock.makefile("rb") as lines:
            answer = exchange(sock, lines, jsonrpcclient.request("system.ping"))
            assert isinstance(answer, jsonrpcclient.Ok)
            answer = exchange(
                sock, lines, jsonrpcclient.request("session.start", params={"plain_stream": True})
            )
            assert answer.result["pipeline"] == "stream"
            answer = exchange(
                sock, lines, jsonrpcclient.request("session.get", params={"session_id": "0" * 16})
            )
            assert isinstance(answer, jsonrpcclient.Error)
            assert answer.data["type"] == "not_found"

    await asyncio.to_thread(drive)
