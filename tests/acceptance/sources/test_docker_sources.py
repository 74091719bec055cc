# SPDX-License-Identifier: MIT
"""Sessions on probes with a URL, in containers: the adapter finds its source, and only it is told the URL."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import Json, Wire
from docker_lab import Engine, viewer_at
from source_lab import camera
from test_docker_restart import Lives
from test_docker_slots import filled

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SECRET = "geheim"
ADAPTER = """
import json, os, socket, sys, urllib.parse
env = dict(os.environ)
if env.pop("OPERATORD_LATE_BIND", ""):
    env.update(json.loads(sys.stdin.readline())["env"])
url = urllib.parse.urlsplit(env["source_url"])
if url.scheme == "file":
    print("it says", open(urllib.parse.unquote(url.path)).read(), flush=True)
else:
    socket.create_connection((url.hostname, url.port), 10).close()
    print("the source is there, for a password of", len(url.password), "letters", flush=True)
os.execve(sys.executable, [sys.executable, "-EsBS", "/app/probe.pyc"], env)
"""
"""Connects to its source, or reads its file, and then does as the emulator does."""
ENV = {"count": 2_000_000_000, "fps": 200, "width": 16, "height": 16}
APART: Json = {
    "network": "separate",
    "stages": {
        "probe": {"image": "demo-probe", "port": 12345},
        "stream": {"image": "demo-stream", "port": 12346, "late_bind": "off"},
    },
}


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The emulator's image with the adapter as its program."""
    name, engine = f"adapter-{os.getpid()}", Engine()
    program = json.dumps(["python3", "-EsBS", "-c", ADAPTER])
    dockerfile = io.BytesIO(f"FROM demo-probe\nENTRYPOINT {program}\n".encode())
    for line in engine.client.build(fileobj=dockerfile, tag=name, rm=True, decode=True):
        assert "error" not in line, line
    yield name
    engine.client.remove_image(name, force=True)
    engine.close()


@pytest.fixture
async def lives(
    tmp_path: Path, engine_folder: Path, subnets: str, image: str
) -> AsyncIterator[Lives]:
    lives = Lives(tmp_path / "state", subnets)
    reader = {"image": image, "env": ENV}
    lives.more = {
        "sources": {"rtsp": reader, "file": reader},
        "probes": {"allow": ["127.0.0.0/8", f"file:{engine_folder}"]},
        "pipelines": {"apart": APART},
    }
    yield lives
    await lives.close()


async def adapter_s_words(wire: Wire, session: Json) -> list[str]:
    lines = (await wire.call("session.logs", session_id=session["session_id"], stage="probe"))[
        "lines"
    ]
    return [each["line"] for each in lines]


async def inspected(lives: Lives, session: Json) -> str:
    """Return all that the engine says of a session's containers."""
    stages = [session[each] for each in ("probe", "stream")]
    found = [
        await asyncio.to_thread(lives.engine.client.inspect_container, each) for each in stages
    ]
    return json.dumps(found)


async def test_camera_of_this_machine_is_read_while_daemons_come_and_go(lives: Lives) -> None:
    """Only the host reaches it, so that the adapter finds it by a relay, which outlives the daemon."""
    wire = await lives.start()
    async with camera() as port:
        url = f"rtsp://user:{SECRET}@127.0.0.1:{port}/live"
        await wire.call("probe.register", name="cam", url=url)
        for pipeline in (
            "segmented",
            "apart",
        ):  # all stages wait for their line, or the adapter alone
            session = await wire.call("session.start", probe="cam", pipeline=pipeline)
            assert "the source is there, for a password of 6 letters" in await adapter_s_words(
                wire, session
            )
            assert SECRET not in await inspected(lives, session)
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(5)
        await lives.end(wire, signal.SIGKILL)
        wire = await lives.start()
        again = await wire.call("session.get", session_id=session["session_id"])
        assert (again["phase"], again["registered_probe"]) == ("running", "cam")
        await viewer.frames(5)
    assert [each["name"] for each in (await wire.call("probe.list"))["probes"]] == ["cam"]
    await lives.end(wire)


async def test_slot_with_an_adapter_is_told_its_camera(lives: Lives) -> None:
    rtsp = {**lives.more["sources"]["rtsp"], "warm": 1}
    lives.more = {**lives.more, "sources": {"rtsp": rtsp}, "pipelines": {"stream": {"warm": 1}}}
    wire = await lives.start()
    async with camera() as port:
        await wire.call("probe.register", name="cam", url=f"rtsp://user:{SECRET}@127.0.0.1:{port}/")
        await filled(wire, 1, "stream@rtsp")
        session = await wire.call("session.start", probe="cam", plain_stream=True)
        assert session["warm"] is True
        assert SECRET not in await inspected(lives, session)
        assert "the source is there, for a password of 6 letters" in await adapter_s_words(
            wire, session
        )
    await lives.end(wire)


async def test_allowed_folder_is_in_the_adapter_s_container(
    lives: Lives, engine_folder: Path
) -> None:
    """With no setting but `probes.allow`, and nobody can write to it."""
    engine_folder.chmod(0o755)  # the adapter runs as nobody
    file = engine_folder / "scan one"
    file.write_text("moin")
    wire = await lives.start()
    await wire.call("probe.register", name="rec", url=f"file:{file}".replace(" ", "%20"))
    session = await wire.call("session.start", probe="rec", plain_stream=True)
    assert "it says moin" in await adapter_s_words(wire, session)
    container = await asyncio.to_thread(lives.engine.client.inspect_container, session["probe"])
    assert [(each["Destination"], each["RW"]) for each in container["Mounts"]] == [
        (str(file.parent), False)
    ]
    await lives.end(wire)
