# SPDX-License-Identifier: MIT
"""The credentials in a probe's URL reach its adapter, and nobody else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from daemon_lab import Json, Wire, receive, served
from gateway_lab import Caller
from shared_host import free_port
from source_lab import camera, settings, told

SECRET = "geheim"
OF_ALL = (
    "session.list", "probe.list", "pipeline.list", "system.describe", "system.status", "system.metrics",
)  # fmt: skip


async def test_credentials_are_shown_nowhere(tmp_path: Path) -> None:
    """Everything that a daemon says, on its socket, over HTTP and in its log, of a session on a URL."""
    note, http = tmp_path / "note.json", Caller(("127.0.0.1", free_port()))
    listen = f"127.0.0.1:{http.address[1]}"
    config = settings(note) | {"log": {"level": "debug"}, "http": {"listen": listen}}
    async with camera() as port, served(tmp_path / "state", config=config) as daemon:
        wire, journal = await daemon.wire(), tmp_path / "state" / "journal.sqlite"
        url = f"rtsp://user:{SECRET}@127.0.0.1:{port}/live"
        said = [await registered(wire, url)]
        assert SECRET in rows_of(journal)  # it has to be known again after a restart
        said += [await lived(wire, http), await failed(wire, url), wire.notes]
        await wire.close()
        await daemon.stop()
    assert told(note)["source_url"] == url
    assert SECRET not in json.dumps([said, daemon.log])
    assert any("rtsp://127.0.0.1" in each.get("message", "") for each in daemon.log)
    assert journal.stat().st_mode & 0o077 == 0
    assert '"name":"cam","url":' in rows_of(journal)  # the sessions are remembered …
    assert found_in(tmp_path / "state") == []  # … and nothing else, on free pages either


def rows_of(journal: Path) -> str:
    """Return what the rows of sessions and probes say."""
    with closing(sqlite3.connect(journal)) as db:
        found = db.execute("SELECT data FROM session UNION ALL SELECT data FROM probe").fetchall()
    return b"\n".join(data for (data,) in found).decode()


def found_in(folder: Path) -> list[Path]:
    """Return the files that have the secret in any of their bytes."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return [each for each in files if SECRET.encode() in each.read_bytes()]


async def registered(wire: Wire, url: str) -> list[Any]:
    """Return what is said of registering, of the probe, and of one that is not allowed."""
    await wire.call("events.subscribe", since=0)
    refused = await wire.refusal(
        "probe.register", name="no", url=url.replace("127.0.0.1", "8.8.8.8")
    )
    return [await wire.call("probe.register", name="cam", url=url), refused.message, refused.data]


async def lived(wire: Wire, http: Caller) -> list[Any]:
    """Return what is said of a session while it runs, and after its end."""
    session = await wire.call("session.start", probe="cam", count=5)
    one: Json = {"session_id": session["session_id"]}
    said = [session, await wire.call("session.plan", probe="cam")]
    said += [await wire.call(each) for each in OF_ALL]
    said += [await wire.call(f"session.{each}", **one) for each in ("get", "logs", "stats")]
    for page in ("/metrics", "/", "/openapi.json", f"/sessions/{one['session_id']}"):
        said.append(str(await http.get(page)))
    said.append(await http.call("probe.list"))
    await receive(session["location"])
    return [*said, await wire.call("session.wait", **one), await wire.call("session.get", **one)]


async def failed(wire: Wire, url: str) -> list[Any]:
    """Return what is said of a line that is none, of a session that fails, and of the probe's removal."""
    wire.send("session.nonsense {" + url)
    said = [await wire.line()]
    refused = await wire.refusal("session.start", probe="cam", env={"stream": {"policy": "x"}})
    said += [refused.message, refused.data, await wire.call("session.list")]
    return [*said, await wire.call("probe.remove", name="cam")]
