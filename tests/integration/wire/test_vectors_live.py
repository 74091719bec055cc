# SPDX-License-Identifier: MIT
"""The golden requests of protocol/vectors, sent to a running daemon."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Wire

VECTORS = Path(__file__).parents[3] / "protocol" / "vectors" / "requests.jsonl"
LIVE = [
    vector
    for line in VECTORS.read_text("utf-8").splitlines()
    if (vector := json.loads(line))["live"]
]
MARK = '{"method":"system.ping","id":"mark"}'


def same(error: dict[str, Any], wanted: dict[str, Any]) -> bool:
    found = {"code": error["code"], "type": error["data"]["type"]}
    if "path" in wanted:
        found["path"] = error["data"]["path"]
    return found == {key: wanted[key] for key in found}


async def replies(wire: Wire, vector: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the vector's line is answered with, up to the reply to a ping behind it."""
    await wire.ask('{"method":"system.ping"}')
    line = base64.b64decode(vector["base64"]) if "base64" in vector else vector["line"].encode()
    wire.send(line)
    found = [await wire.line()] if vector["expect"]["wants_reply"] else []
    wire.send(MARK)
    while (reply := await wire.line()).get("id") != "mark":
        found.append(reply)
    return found


@pytest.mark.parametrize("vector", LIVE, ids=[vector["name"] for vector in LIVE])
async def test_vector(wire: Wire, vector: dict[str, Any]) -> None:
    expect = vector["expect"]
    found = await replies(wire, vector)
    if not expect["wants_reply"]:
        assert found == []
        return
    [reply] = found
    if expect["dialect"] == "rpc":
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", expect["id"])
    else:
        assert "jsonrpc" not in reply
        assert reply.get("id") == expect["id"]
    if wanted := expect.get("error") or vector.get("reply", {}).get("error") or vector.get("reply"):
        assert same(reply["error"], wanted), reply
    elif expect["dialect"] != "seed":
        assert "result" in reply
