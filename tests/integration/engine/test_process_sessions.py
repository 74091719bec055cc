# SPDX-License-Identifier: MIT
"""Whole sessions on the process engine: the emulators as local processes, their real streams."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, Refused, Wire, in_process, receive, run
from source_lab import host_probe

PROBE = Path(__file__).parents[3] / "emulators" / "probe" / "probe.py"
FAST = {"probe": {"fps": 0}}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with in_process(tmp_path / "state", {"engine": "process"}) as running:
        yield running


async def ended(wire: Wire, session: Json) -> Json:
    return await wire.call("session.wait", session_id=session["session_id"])


async def test_segmented_session_delivers_exactly_its_frames_with_masks(wire: Wire) -> None:
    session = await wire.call("session.start", count=20, env=FAST)
    hello, frames, end = await receive(session["location"])
    assert (hello["width"], hello["height"], hello["count"]) == (256, 256, 20)
    assert [header["seq"] for header, _ in frames] == list(range(20))
    assert end == {"type": "end", "frames": 20, "dropped": 0}
    for header, parts in frames:
        assert len(parts["image"]) == 256 * 256
        assert set(parts["mask"]) == {0, 255}
        [mask] = [part for part in header["parts"] if part["name"] == "mask"]
        assert mask["area"] == parts["mask"].count(255)
        assert mask["dice"] > 0.9
    done = await ended(wire, session)
    assert (done["outcome"], done["cause"], done["frames"]) == ("completed", "done", 20)
    assert done["exit_codes"] == {"probe": 0, "stream": 0, "segmentation": 0}


async def test_status_warns_that_nothing_isolates_stages(wire: Wire) -> None:
    warnings = (await wire.call("system.status"))["warnings"]
    assert any("local processes" in each and "nothing isolates" in each for each in warnings)


async def test_plain_session_has_images_only(wire: Wire) -> None:
    session = await wire.call("session.start", count=20, plain_stream=True, env=FAST)
    _, frames, end = await receive(session["location"])
    assert {tuple(parts) for _, parts in frames} == {("image",)}
    assert end["frames"] == len(frames) == 20
    assert (await ended(wire, session))["outcome"] == "completed"


async def test_y4m_begins_with_its_header(wire: Wire) -> None:
    session = await wire.call("session.start", count=3, format="y4m", env=FAST)
    location = session["location"]
    assert location["format"] == "y4m"
    reader, writer = await asyncio.open_connection(location["host"], location["port"])
    data = await reader.read()
    writer.close()
    head = data.split(b"\n", 1)[0].decode()
    assert head.startswith("YUV4MPEG2 W256 H256 ")
    assert "Cmono" in head
    assert data.count(b"FRAME") >= 3
    assert (await ended(wire, session))["outcome"] == "completed"


async def test_frames_do_not_begin_before_the_first_consumer(wire: Wire) -> None:
    session = await wire.call("session.start", count=5, env=FAST)
    with pytest.raises(Refused, match="deadline_exceeded"):
        await wire.call("session.wait", session_id=session["session_id"], timeout=0.5)
    _, frames, _ = await receive(session["location"])
    assert [header["seq"] for header, _ in frames] == list(range(5))


async def test_sessions_at_once_do_not_mix(lab: Lab, wire: Wire) -> None:
    wires = [await lab.wire() for _ in range(4)]
    started = await asyncio.gather(*(
        w.call("session.start", count=5, env={"probe": {"fps": 0, "width": 32 + 16 * n}})
        for n, w in enumerate(wires)
    ))  # fmt: skip
    streams = await asyncio.gather(*(receive(session["location"]) for session in started))
    assert [hello["width"] for hello, _, _ in streams] == [32, 48, 64, 80]
    assert {(await ended(wire, session))["outcome"] for session in started} == {"completed"}


async def test_allowed_env_reaches_its_stage(wire: Wire) -> None:
    env = {"probe": {"fps": 0, "width": 64, "height": 32}}
    session = await wire.call("session.start", count=2, env=env)
    hello, _, _ = await receive(session["location"])
    assert (hello["width"], hello["height"]) == (64, 32)


async def test_stage_that_is_killed_fails_the_session(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    stage = lab.daemon.engine._stages[session["stream"]]
    os.kill(stage.child.pid, signal.SIGKILL)
    done = await ended(wire, session)
    assert (done["outcome"], done["cause"]) == ("failed", "exit")
    assert "stream" in done["reason"]
    assert done["exit_codes"]["stream"] == 137


async def test_registered_probe_is_checked_used_and_cut_short(wire: Wire) -> None:
    async with host_probe(count="2000000000", fps="0") as port:
        probe = await wire.call("probe.register", name="bed-3", host="127.0.0.1", port=port)
        assert probe["state"] == "up"
        assert (probe["frame"]["width"], probe["frame"]["height"]) == (256, 256)
        session = await wire.call("session.start", probe="bed-3", count=7)
        assert "probe" not in session, "no container is started for a registered probe"
        assert session["registered_probe"] == "bed-3"
        used = await wire.call("probe.get", name="bed-3")
        assert used["sessions"] == [session["session_id"]]
        assert (await wire.refusal("probe.remove", name="bed-3")).type == "conflict"
        _, frames, end = await receive(session["location"])
        assert end["frames"] == len(frames) == 7
        assert (await ended(wire, session))["outcome"] == "completed"
        assert (await wire.call("probe.remove", name="bed-3"))["name"] == "bed-3"
        assert (await wire.refusal("probe.get", name="bed-3")).type == "not_found"


async def test_registered_probe_without_a_count_sends_all_it_has(wire: Wire) -> None:
    async with host_probe(count="9", fps="0") as port:
        await wire.call("probe.register", name="p", host="127.0.0.1", port=port)
        session = await wire.call("session.start", probe="p", plain_stream=True)
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 9


async def test_probe_that_is_not_there(lab: Lab, wire: Wire) -> None:
    async with host_probe(count="5", fps="0") as port:
        pass
    probe = await wire.call("probe.register", name="gone", host="127.0.0.1", port=port)
    assert probe["state"] == "down"
    assert probe["error"]
    refused = await wire.refusal("session.start", probe="gone")
    assert (refused.type, refused.data["step"]) == ("probe_unreachable", "probe")
    assert refused.data["retryable"] is True


async def test_probe_names_are_taken_once_and_leased(lab: Lab, wire: Wire) -> None:
    async with host_probe(count="5", fps="0") as port, host_probe(count="5", fps="0") as other_port:
        leased = await lab.wire()
        params = {"name": "p", "host": "127.0.0.1", "port": port}
        await leased.call("probe.register", **params, lease="connection", labels={"ward": "3"})
        [listed] = (await wire.call("probe.list"))["probes"]
        assert (listed["name"], listed["lease"]) == ("p", "connection")
        assert listed["labels"] == {"ward": "3"}
        refused = await wire.refusal("probe.register", **{**params, "port": other_port})
        assert refused.type == "conflict"
        await leased.close()
        while (await wire.call("probe.list"))["probes"]:
            pass
        await wire.call("probe.register", **{**params, "port": other_port})


async def test_probe_events_tell_when_it_goes_and_comes(wire: Wire) -> None:
    await wire.call("events.subscribe", types=["probe.up", "probe.down"])
    async with host_probe(count="5", fps="0") as port:
        await wire.call("probe.register", name="p", host="127.0.0.1", port=port)
        up = await wire.event("probe.up")
        await wire.call("probe.register", name="p", host="127.0.0.1", port=port)  # no news
    await wire.call("probe.get", name="p")
    down = await wire.event("probe.down")
    assert (up["name"], down["name"], down["seq"]) == ("p", "p", up["seq"] + 1)


async def test_pipeline_with_a_command_of_its_own(tmp_path: Path) -> None:
    fault = "import sys; print('no such device', file=sys.stderr); sys.exit(4)"
    overlay = {"pipelines": {"stream": {"stages": {"probe": {
        "command": [sys.executable, "-c", fault]}}}}}  # fmt: skip
    async with in_process(tmp_path / "s", {"engine": "process"}, overlay) as lab:
        wire = await lab.wire()
        refused = await wire.refusal("session.start", plain_stream=True)
        assert (refused.type, refused.data["stage"]) == ("start_failed", "probe")
        assert refused.data["log"] == ["no such device"]


async def test_logs_and_stats_of_real_stages(wire: Wire) -> None:
    session = await wire.call("session.start", count=100)
    sid = session["session_id"]
    lines = (await wire.call("session.logs", session_id=sid))["lines"]
    assert {line["stage"] for line in lines} == {"probe", "stream", "segmentation"}
    assert any('"type":"listening"' in line["line"] for line in lines)
    stats = (await wire.call("session.stats", session_id=sid))["stages"]
    assert all(stage["memory"] > 1 << 20 for stage in stats.values())
    assert (await wire.call("session.stop", session_id=sid))["outcome"] == "stopped"


async def test_ffmpeg_counts_the_frames(wire: Wire, ffmpeg: str) -> None:
    session = await wire.call("session.start", count=25, format="y4m", env=FAST)
    command = (ffmpeg, "-v", "error", "-f", "yuv4mpegpipe", "-i", session["location"]["url"])
    code, out, err = await run(*command, "-f", "framecrc", "-")
    assert (code, err) == (0, "")
    assert len([line for line in out.splitlines() if not line.startswith("#")]) == 25
    assert (await ended(wire, session))["outcome"] == "completed"


async def test_a_command_runs_whatever_its_image_is_called(tmp_path: Path) -> None:
    """A stage of one's own can be tried out without an engine; of the image alone no program is known."""
    command = [sys.executable, "-EsS", str(PROBE)]
    own = {"stages": {"probe": {"image": "of-ones-own", "port": 12345, "command": command}}}
    unknown = {"stages": {"probe": {"image": "of-ones-own", "port": 12345}}}
    pipelines = {"own": own, "unknown": unknown}
    config = {"engine": "process", "pipelines": pipelines}
    async with in_process(tmp_path / "state", config) as lab:
        wire = await lab.wire()
        session = await wire.call("session.start", pipeline="own", count=3)
        _, _, end = await receive(session["location"])
        assert end == {"type": "end", "frames": 3, "dropped": 0}
        refused = await wire.refusal("session.start", pipeline="unknown")
        assert (refused.type, refused.data["image"]) == ("image_missing", "of-ones-own")
        assert refused.message == (
            "a local process runs a program and no image, and for of-ones-own none is known: give the "
            "stage a `command`, or use a container engine"
        )
