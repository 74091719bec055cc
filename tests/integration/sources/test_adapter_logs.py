# SPDX-License-Identifier: MIT
"""What an adapter writes says what listens where: who reads it, where there are logins."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Wire
from guarded_lab import Guarded, guarded
from shared_host import free_port
from source_lab import PROBE, camera

from operatord.engines.base import StageStats

HIDDEN = "only operators are shown what the adapter says"
CONNECTS = """
import os, socket, sys
from urllib.parse import urlsplit
url = urlsplit(os.environ["source_url"])
try:
    camera = socket.create_connection((url.hostname, url.port))
    camera.settimeout(0.3)
    print("it says", camera.recv(9), file=sys.stderr)
except OSError as exc:
    print("NOTHING", type(exc).__name__, file=sys.stderr)
sys.exit(3)
"""
"""An adapter that says what it has found, and ends as one that has found nothing."""

TALKS = {
    "image": "demo-probe",
    "command": [
        sys.executable,
        "-uc",
        f"import os, sys; print('FOUND'); os.execv(sys.executable, [sys.executable, {str(PROBE)!r}])",
    ],
    "late_bind": "off",
    "env": {"count": 100_000, "fps": 20},
}
"""An adapter that says something and serves a stream."""


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Guarded]:
    adapter = {
        "image": "demo-probe",
        "command": [sys.executable, "-c", CONNECTS],
        "late_bind": "off",
    }
    more: Json = {"engine": "process", "sources": {"igtl": adapter, "rtsp": TALKS}}
    async with guarded(tmp_path, more=more) as running:
        yield running


async def failed(wire: Wire, port: int) -> tuple[Json, str]:
    """Start a session on a port; return all that is said of how it failed, and its id."""
    await wire.call("probe.register", name="p", url=f"igtl://127.0.0.1:{port}")
    refused = await wire.refusal("session.start", probe="p", plain_stream=True)
    await wire.call("probe.remove", name="p")
    one = refused.data["session_id"]
    return {"message": refused.message, "data": refused.data, **await known(wire, one)}, one


async def known(wire: Wire, one: str) -> Json:
    """Return what is said of a session that has ended."""
    session = await wire.call("session.get", session_id=one)
    lines = (await wire.call("session.logs", session_id=one, stage="probe"))["lines"]
    all_lines = (await wire.call("session.logs", session_id=one))["lines"]
    waited = await wire.call("session.wait", session_id=one, phase="ended")
    assert waited["post_mortem"] == session["post_mortem"]
    told = {name: session["post_mortem"][name] for name in ("stage", "advice")}
    return told | {
        "reason": session["reason"],
        "exit_codes": session["exit_codes"]["probe"],
        "log": session["post_mortem"]["log"]["probe"],
        "lines": [each["line"] for each in lines],
        "of all": [each["line"] for each in all_lines if each["stage"] == "probe"],
    }


async def test_only_operators_read_what_an_adapter_found(door: Guarded) -> None:
    """A8: a closed port and a silent one are told a user alike, whoever else has asked before."""
    ada, root = await door.wire("ada", "user"), await door.wire("root", "operator")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = {"ConnectionRefusedError": free_port(), "TimeoutError": silent.getsockname()[1]}
        told = set[str]()
        for kind, port in found.items():
            said, one = await failed(ada, port)
            told.add(json.dumps(said).replace(one, "ID"))
            places = [said["data"]["log"], said["log"], said["lines"], said["of all"]]
            assert places == [[HIDDEN]] * 4
            words = [f"NOTHING {kind}"]
            seen = await known(root, one)
            assert [seen["log"], seen["lines"], seen["of all"]] == [words] * 3
            assert (await known(ada, one))["log"] == [HIDDEN]
        assert len(told) == 1, told
        assert (await failed(root, found["TimeoutError"]))[0]["data"]["log"] == [
            "NOTHING TimeoutError"
        ]


async def test_traffic_of_an_adapter_that_has_found_nothing_yet_is_for_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def used(_: str) -> StageStats:
        return StageStats(memory=1, rx_bytes=60, tx_bytes=60)

    async with guarded(tmp_path, more={"sources": {"igtl": {"image": "demo-probe"}}}) as door:
        ada, root = await door.wire("ada", "user"), await door.wire("root", "operator")
        monkeypatch.setattr(door.lab.fake, "stats", used)
        await ada.call("probe.register", name="p", url="igtl://192.168.7.9:9")
        gate = door.lab.fake.script.hold("start")
        request = ada.begin("session.start", probe="p", plain_stream=True)
        await gate.reached.wait()
        (one,) = (await root.call("session.list"))["sessions"]
        for wire, shown in ((ada, {"memory"}), (root, {"memory", "rx_bytes", "tx_bytes"})):
            told = await wire.call("session.stats", session_id=one["session_id"])
            assert all(shown == each.keys() for each in told["stages"].values())
            assert "probe" in told["stages"]
        gate.open.set()
        await ada.reply(request)


async def test_only_operators_follow_an_adapter(door: Guarded) -> None:
    ada, root = await door.wire("ada", "user"), await door.wire("root", "operator")
    async with camera() as port:
        await ada.call("probe.register", name="p", url=f"rtsp://127.0.0.1:{port}/")
        session = await ada.call("session.start", probe="p", plain_stream=True)
    one: Json = {"session_id": session["session_id"], "stage": "probe"}
    for wire, hidden in ((ada, True), (root, False)):
        now = (await wire.call("session.logs", **one))["lines"]
        begun = await wire.call("session.logs", **one, follow=True)
        assert begun["lines"] == []
        first = await wire.note(lambda said: "line" in said)
        assert [each["line"] == HIDDEN for each in now[:1]] == [hidden]
        assert (first["line"] == HIDDEN, first["stage"]) == (hidden, "probe")
    assert await ada.note(lambda said: "end" in said)
    await ada.call("session.stop", session_id=session["session_id"])
