# SPDX-License-Identifier: MIT
"""The credentials in a probe's URL reach its adapter, and nobody else."""

from __future__ import annotations

import json
from pathlib import Path

from daemon_lab import receive, served
from gateway_lab import Caller
from shared_host import free_port
from source_lab import camera, settings, told

SECRET = "geheim"


async def test_credentials_are_shown_nowhere(tmp_path: Path) -> None:
    """Everything that a daemon says, on its socket, over HTTP and in its log, of a session on a URL."""
    note = tmp_path / "note.json"
    http = Caller(("127.0.0.1", free_port()))
    listen = f"127.0.0.1:{http.address[1]}"
    config = settings(note) | {"log": {"level": "debug"}, "http": {"listen": listen}}
    async with camera() as port, served(tmp_path / "state", config=config) as daemon:
        wire = await daemon.wire()
        await wire.call("events.subscribe", since=0)
        url = f"rtsp://user:{SECRET}@127.0.0.1:{port}/live"
        said = [await wire.call("probe.register", name="cam", url=url)]
        bad = url.replace("127.0.0.1", "8.8.8.8")
        said.append(str(await wire.refusal("probe.register", name="bad", url=bad)))
        session = await wire.call("session.start", probe="cam", count=5)
        one = {"session_id": session["session_id"]}
        said += [session, await wire.call("session.plan", probe="cam")]
        methods = [
            "session.list",
            "probe.list",
            "system.describe",
            "system.status",
            "system.metrics",
        ]
        said += [await wire.call(each) for each in [*methods, "pipeline.list"]]
        said += [await wire.call(f"session.{each}", **one) for each in ("get", "logs", "stats")]
        pages = ("/metrics", "/", "/openapi.json", f"/sessions/{session['session_id']}")
        said += [str(await http.get(page)) for page in pages]
        said.append(await http.call("probe.list"))
        await receive(session["location"])
        said.append(await wire.call("session.wait", **one))
        said.append(await wire.call("session.get", **one))
        wire.send("session.nonsense {" + url)
        said += [await wire.line(), wire.notes]
        failed = await wire.refusal("session.start", probe="cam", env={"stream": {"policy": "x"}})
        said += [failed.data, str(failed), await wire.call("session.list")]
        said.append(await wire.call("probe.remove", name="cam"))
        await wire.close()
        await daemon.stop()
    assert told(note)["source_url"] == url
    assert SECRET not in json.dumps([said, daemon.log])
    assert any("rtsp://127.0.0.1" in each.get("message", "") for each in daemon.log)
    kept = (tmp_path / "state" / "journal.sqlite").stat().st_mode
    assert kept & 0o077 == 0
