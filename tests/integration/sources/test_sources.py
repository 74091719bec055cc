# SPDX-License-Identifier: MIT
"""Probes that are given as a URL: registered, looked at, and read by an adapter in local processes."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Lab, Wire, in_process, receive
from daemon_lab import settings as daemon_settings
from guarded_lab import guarded
from source_lab import adapter, camera, settings, told

from operatord.settings.yaml_text import parse

SECRET = "geheim"


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note.json"


@pytest.fixture
async def lab(tmp_path: Path, note: Path) -> AsyncIterator[Lab]:
    (tmp_path / "recordings").mkdir()
    allow = [f"file:{tmp_path}/recordings", "v4l2:/dev/nul*"]
    more = {each: adapter(note) for each in ("file", "v4l2", "igtl")}
    async with in_process(tmp_path / "state", settings(note, allow=allow, **more)) as running:
        yield running


# Sessions


async def test_session_on_a_url_reads_from_an_adapter_that_was_told_it(
    wire: Wire, note: Path
) -> None:
    async with camera() as port:
        url = f"rtsp://user:{SECRET}@127.0.0.1:{port}/live?x=1"
        probe = await wire.call("probe.register", name="cam", url=url)
        assert probe["url"] == f"rtsp://127.0.0.1:{port}/live?x=1"
        assert (probe["host"], probe["port"], probe["state"]) == ("127.0.0.1", port, "up")
        session = await wire.call("session.start", probe="cam")
    _, frames, _ = await receive(session["location"])
    assert len(frames) == 5  # as many as the source has, and not the default count
    assert session["registered_probe"] == "cam"
    assert "count" not in session
    assert set(session) >= {"probe", "stream", "segmentation"}
    shown = f"rtsp://127.0.0.1:{port}/live?x=1"
    assert told(note) == {
        "before": None, "source_url": url, "source_shown": shown, "count": None,
    }  # fmt: skip
    assert (await wire.call("session.wait", session_id=session["session_id"]))[
        "outcome"
    ] == "completed"


async def test_segmentation_is_attached_to_a_session_on_a_url(tmp_path: Path, note: Path) -> None:
    """There is room for one whole session, and for an adapter with a streaming server."""
    tight = settings(note, rtsp=adapter(note, cpus=0.02)) | {
        "system_reserved": {"cpus": round((os.cpu_count() or 1) - 0.28, 3)},
        "pipelines": {"segmented": {"stages": {"segmentation": {"cpus": 0.2}}}},
    }
    async with in_process(tmp_path / "state", tight) as lab, camera() as port:
        wire = await lab.wire()
        await wire.call("events.subscribe", types=["session.attached"])
        await wire.call("probe.register", name="cam", url=f"rtsp://127.0.0.1:{port}/")
        other = await wire.call("session.start")
        plain = await wire.call("session.start", probe="cam", on_shortage="degrade")
        assert plain["degraded"] is True
        await wire.call("session.stop", session_id=other["session_id"])
        await wire.event("session.attached", plain["session_id"])
        session = await wire.call("session.get", session_id=plain["session_id"])
        _, frames, _ = await receive(session["location"])
    assert {tuple(sorted(parts)) for _, parts in frames} == {("image", "mask")}


async def test_plan_counts_with_the_adapter_and_shows_no_url(wire: Wire) -> None:
    async with camera() as port:
        await wire.call("probe.register", name="cam", url=f"rtsp://u:{SECRET}@127.0.0.1:{port}/")
    plain = await wire.call("session.plan", plain_stream=True)
    plan = await wire.call("session.plan", plain_stream=True, probe="cam")
    assert plan["explanation"]["stages"] == {"probe": "demo-probe", "stream": "demo-stream"}
    more = plan["explanation"]["reservation"]["cpus"] - plain["explanation"]["reservation"]["cpus"]
    assert more == pytest.approx(0.24)
    assert SECRET not in json.dumps(plan)


async def test_source_that_cannot_be_reached_starts_nothing(wire: Wire, note: Path) -> None:
    async with camera() as port:
        await wire.call("probe.register", name="cam", url=f"rtsp://u:{SECRET}@127.0.0.1:{port}/a")
    refused = await wire.refusal("session.start", probe="cam")
    assert refused.type == "probe_unreachable"
    assert f"rtsp://127.0.0.1:{port}/a: Connection refused" in refused.message
    assert SECRET not in str(refused)
    assert not note.exists()


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        ("401 Unauthorized\r\n\r\n", False),
        ("403 Forbidden\r\n\r\n", False),
        ("404 Not Found\r\n\r\n", False),
        ("200 OK\r\nContent-Length: 5\r\n\r\nv=0\r\n", False),
        ("500 Not yet\r\n\r\n", True),
    ],
)
async def test_source_that_refuses_is_not_worth_another_try(
    wire: Wire, answer: str, retryable: bool
) -> None:
    async with camera(answer) as port:
        await wire.call("probe.register", name="cam", url=f"rtsp://127.0.0.1:{port}/a")
        refused = await wire.refusal("session.start", probe="cam")
    assert refused.type == "probe_unreachable"
    assert refused.data["retryable"] is retryable


async def test_file_is_read_where_it_is(wire: Wire, note: Path, tmp_path: Path) -> None:
    file = tmp_path / "recordings" / "a b.mkv"
    file.write_bytes(b"\x1aE\xdf\xa3")
    url = f"file:{tmp_path}/recordings/a%20b.mkv"
    probe = await wire.call("probe.register", name="rec", url=url)
    assert (probe["url"], probe["state"]) == (url, "up")
    assert not {"host", "port"} & probe.keys()
    session = await wire.call("session.start", probe="rec", count=3)
    _, frames, _ = await receive(session["location"])
    assert len(frames) == 3
    assert told(note)["source_url"] == url
    file.unlink()
    gone = await wire.call("probe.get", name="rec")
    assert gone["state"] == "down"
    assert "No such file" in gone["error"]
    assert (await wire.refusal("session.start", probe="rec")).type == "probe_unreachable"


async def test_device_must_be_one(wire: Wire, tmp_path: Path) -> None:
    assert (await wire.call("probe.register", name="v", url="v4l2:/dev/null"))["state"] == "up"
    missing = await wire.call("probe.register", name="w", url="v4l2:/dev/null9")
    assert missing["state"] == "down"


async def test_adapter_s_own_settings_may_be_asked_for(wire: Wire) -> None:
    """The stage `probe` of the pipeline allows others, such as seed."""
    async with camera() as port:
        await wire.call("probe.register", name="cam", url=f"rtsp://127.0.0.1:{port}/")
        for name in ("seed", "source_url"):
            refused = await wire.refusal("session.start", probe="cam", env={"probe": {name: 5}})
            assert refused.data["path"] == f"params.env.probe.{name}"
        session = await wire.call("session.start", probe="cam", env={"probe": {"width": 32}})
    hello, _, _ = await receive(session["location"])
    assert hello["width"] == 32


# Where


@pytest.mark.parametrize(
    ("params", "path", "said"),
    [
        ({}, "params.url", "give a url, or host and port"),
        ({"host": "h"}, "params.port", "is required"),
        ({"port": 1}, "params.host", "is required"),
        ({"url": "rtsp://h/", "host": "h"}, "params.url", "not both"),
        ({"url": "rtsp://h/", "port": 1}, "params.url", "not both"),
        (
            {"url": "fil:/h/"},
            "params.url",
            "no adapter for this scheme; did you mean 'file', of file, ",
        ),
        (
            {"url": "ftp://h/"},
            "params.url",
            "'tcp', of file, http, https, igtl, rtsp, rtsps, tcp, v4l2?",
        ),
        ({"url": "file:/tmp/\x1bx"}, "params.url", "a URL without blanks and control characters; "),
        (
            {"url": "gopher://h/"},
            "params.url",
            "schemes: file, http, https, igtl, rtsp, rtsps, tcp, v4l2",
        ),
        ({"url": "/dev/video0"}, "params.url", "expected a URL such as"),
        ({"url": "tcp://h"}, "params.url", "the port is missing"),
        ({"url": "file:srv"}, "params.url", "expected an absolute path"),
        ({"url": f"rtsp://u:{SECRET}@h:x/"}, "params.url", "expected a port from 1 to 65535"),
        ({"url": f"rtsp://u:/{SECRET}@h/"}, "params.url", "is written %40, / %2F"),
    ],
    ids=str,
)
async def test_url_that_is_none_is_refused_with_what_to_do(
    wire: Wire, params: Json, path: str, said: str
) -> None:
    refused = await wire.refusal("probe.register", name="p", **params)
    assert (refused.type, refused.data["path"]) == ("invalid_params", path)
    assert said in refused.message
    assert SECRET not in str(refused)
    assert (await wire.call("probe.list"))["probes"] == []


@pytest.mark.parametrize(
    "url",
    ["rtsp://8.8.8.8/", "igtl://169.254.169.254", "file:/etc/passwd", "v4l2:/dev/video0", "file:/"],
)
async def test_url_outside_of_what_is_allowed_is_refused_with_the_setting(
    wire: Wire, url: str
) -> None:
    refused = await wire.refusal("probe.register", name="p", url=url)
    assert (refused.type, refused.data["path"]) == ("forbidden", "params.url")
    assert "probes.allow" in refused.message


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("file:/srv/a%20b/scan.mp4", "file:/srv/a b"),
        ("v4l2:/dev/video0", "v4l2:/dev/video0"),
        ("file:/scan.mp4", None),
        ("file:/proc/version", None),
    ],
)
async def test_operator_is_told_the_line_that_allows_a_file(
    wire: Wire, tmp_path: Path, url: str, entry: str | None
) -> None:
    said = (await wire.refusal("probe.register", name="p", url=url)).message
    if entry is None:
        assert said.endswith("there")
        return
    _, line, then = said.split("`", 2)
    known = ["127.0.0.0/8", f"file:{tmp_path}/recordings", "v4l2:/dev/nul*"]
    assert parse(line) == {"probes": {"allow": [*known, entry]}}
    assert then == ", then `operatorctl reload`"


async def test_nobody_else_is_told_what_is_allowed(tmp_path: Path) -> None:
    async with guarded(tmp_path, more={"probes": {"allow": ["file:/srv/rec"]}}) as lab:
        for role, told in (("user", False), ("operator", True)):
            wire = await lab.wire(role, role)
            refused = await wire.refusal("probe.register", name="p", url="file:/etc/passwd")
            assert ("probes.allow" in refused.message, "/srv/rec" in refused.message) == (
                True,
                told,
            )


async def test_link_out_of_the_allowed_folder_is_not_followed(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "recordings" / "link").symlink_to("/etc/passwd")
    probe = await wire.call("probe.register", name="p", url=f"file:{tmp_path}/recordings/link")
    assert probe["state"] == "down"
    assert "is a link" in probe["error"]
    assert (await wire.refusal("session.start", probe="p")).type == "probe_unreachable"


async def test_tcp_url_is_a_host_and_a_port(wire: Wire) -> None:
    probe = await wire.call("probe.register", name="p", url="tcp://127.0.0.1:9")
    again = await wire.call("probe.register", name="p", host="127.0.0.1", port=9)
    for each in (probe, again):
        assert (each["host"], each["port"], each["url"]) == ("127.0.0.1", 9, "tcp://127.0.0.1:9")


async def test_same_name_with_another_url_or_other_credentials_is_a_conflict(wire: Wire) -> None:
    async with camera() as port:
        url = f"rtsp://u:{SECRET}@127.0.0.1:{port}/"
        await wire.call("probe.register", name="cam", url=url)
        await wire.call("probe.register", name="cam", url=url)
        other = await wire.refusal("probe.register", name="cam", url=f"{url}b")
        assert f"registered as rtsp://127.0.0.1:{port}/;" in other.message
        other = await wire.refusal("probe.register", name="cam", url=url.replace(SECRET, "x"))
        assert "registered with other credentials" in other.message
        assert other.type == "conflict"


async def test_adapters_are_as_the_settings_have_them_at_each_start(
    tmp_path: Path, note: Path
) -> None:
    """After a reload, a scheme may be new, or have lost its adapter."""
    now: list[Json] = [settings(note, srt=adapter(note)), settings(note)]
    state = tmp_path / "state"
    async with (
        camera() as port,
        in_process(state, settings(note), reread=lambda: daemon_settings(state, now.pop(0))) as lab,
    ):
        wire = await lab.wire()
        probe = {"name": "s", "url": f"srt://127.0.0.1:{port}"}
        assert (await wire.refusal("probe.register", **probe)).type == "invalid_params"
        assert (await wire.call("system.reload"))["changed"] == ["sources"]
        assert (await wire.call("probe.register", **probe))["state"] == "up"
        await receive((await wire.call("session.start", probe="s"))["location"])
        await wire.call("system.reload")
        refused = await wire.refusal("session.start", probe="s")
        assert refused.type == "conflict"
        assert "has no adapter for srt:" in refused.message


# Afterwards


async def test_probe_with_a_url_is_known_after_a_restart(tmp_path: Path, note: Path) -> None:
    async with camera() as port:
        url = f"rtsp://u:{SECRET}@127.0.0.1:{port}/"
        async with in_process(tmp_path / "state", settings(note)) as lab:
            await (await lab.wire()).call("probe.register", name="cam", url=url)
        async with in_process(tmp_path / "state", settings(note)) as lab:
            wire = await lab.wire()
            [probe] = (await wire.call("probe.list"))["probes"]
            assert (probe["name"], probe["url"]) == ("cam", f"rtsp://127.0.0.1:{port}/")
            session = await wire.call("session.start", probe="cam")
            await receive(session["location"])
            assert told(note)["source_url"] == url
