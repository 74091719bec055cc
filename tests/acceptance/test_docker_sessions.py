# SPDX-License-Identifier: MIT
"""The main job on a real Docker Engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import PATIENCE, Json, Refused, Wire, netcat, receive, run
from docker_lab import DockerDaemon, docker_served

from operatord.core.pipelines import shipped

pytestmark = pytest.mark.engine

FAST = {"probe": {"fps": 0}}
BOUNDING = """
for line in open("/proc/1/status"):
    if line.startswith("CapBnd:"):
        print(line.split()[1])
"""


@pytest.fixture
async def fast_daemon(tmp_path: Path) -> AsyncIterator[DockerDaemon]:
    """A daemon whose probe delivers as fast as it is read, though no request says so.

    It would wait for a stage that does not end longer than any test does.
    """
    stages = {"probe": {"env": {"fps": 0}}}
    config = {"pipelines": {"segmented": {"stages": stages}}, "stop_grace": 4 * PATIENCE}
    async with docker_served(tmp_path / "state", config=config) as running:
        yield running


async def test_seed_line_with_netcat_delivers_200_frames_and_leaves_nothing(
    fast_daemon: DockerDaemon, nc: str
) -> None:
    watcher = await fast_daemon.watcher("session.ended")
    out = await netcat(fast_daemon.address, '{"count": 200, "plain_stream": false}\n')
    assert out.count("\n") == 1
    reply = json.loads(out)
    assert {"session_id", "network", "probe", "stream", "segmentation", "location"} <= set(reply)
    containers = {c["Id"]: c for c in fast_daemon.engine.containers(fast_daemon.instance)}
    assert set(containers) == {reply[stage] for stage in ("probe", "stream", "segmentation")}
    [network] = fast_daemon.engine.networks(fast_daemon.instance)
    assert network["Name"] == reply["network"]
    traces = fast_daemon.traces()
    assert traces.found() != []

    hello, frames, end = await receive(reply["location"])
    assert (hello["type"], hello["count"]) == ("hello", 200)
    assert [header["seq"] for header, _ in frames] == list(range(200))
    assert all(set(parts) == {"image", "mask"} for _, parts in frames)
    assert all(len(parts["mask"]) == hello["width"] * hello["height"] for _, parts in frames)
    assert end == {"type": "end", "frames": 200, "dropped": 0}

    # Long before the grace is over that stages have to end by themselves.
    event = await watcher.event("session.ended", reply["session_id"])
    assert fast_daemon.left() == []
    assert traces.found() == []
    assert (event["outcome"], event["cause"]) == ("completed", "done")


async def test_plain_stream(docker_daemon: DockerDaemon) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start", count=30, plain_stream=True, env=FAST)
    assert len(docker_daemon.engine.containers(docker_daemon.instance)) == 2
    _, frames, end = await receive(session["location"])
    assert {tuple(parts) for _, parts in frames} == {("image",)}
    assert end["frames"] == len(frames) == 30
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert ended["exit_codes"] == {"probe": 0, "stream": 0}


async def test_real_ffmpeg_decodes_the_stream(docker_daemon: DockerDaemon, ffmpeg: str) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start", count=50, format="y4m", env=FAST)
    command = (ffmpeg, "-v", "error", "-f", "yuv4mpegpipe", "-i", session["location"]["url"])
    code, out, err = await run(*command, "-f", "framecrc", "-")
    assert (code, err) == (0, "")
    assert len([line for line in out.splitlines() if not line.startswith("#")]) == 50
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert ended["outcome"] == "completed"


@pytest.mark.slow
async def test_twenty_at_once_are_all_verified_and_all_gone_after(
    docker_daemon: DockerDaemon,
) -> None:
    wires = [await docker_daemon.wire() for _ in range(20)]
    started = await asyncio.gather(*(
        wire.reply(wire.begin("session.start", count=3, env=FAST), 90) for wire in wires
    ))  # fmt: skip
    assert len({session["location"]["port"] for session in started}) == 20
    traces = docker_daemon.traces()
    assert len(set(traces.subnets)) == 20
    streams = await asyncio.gather(*(receive(session["location"]) for session in started))
    assert [len(frames) for _, frames, _ in streams] == [3] * 20

    async def ended(wire: Wire, session: Json) -> str:
        wait = wire.begin("session.wait", session_id=session["session_id"])
        return (await wire.reply(wait, 60))["outcome"]

    outcomes = await asyncio.gather(*map(ended, wires, started))
    assert outcomes == ["completed"] * 20
    assert docker_daemon.left() == []
    assert traces.found() == []


def _log_size(daemon: DockerDaemon, container: str, logs: Json) -> str:
    """Return how much is kept of a log. Podman says so by an interface of its own only."""
    if logs["Config"]:
        size: str = logs["Config"]["max-size"]
        return size
    client = daemon.engine.client
    answer = client.get(f"{client.base_url}/v4.0.0/libpod/containers/{container}/json").json()
    own: str = answer["HostConfig"]["LogConfig"]["Size"]
    return own


async def test_containers_are_hardened_limited_and_labelled(docker_daemon: DockerDaemon) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start")
    for stage, limits in shipped()["segmented"].stages.items():
        found: Json = docker_daemon.engine.client.inspect_container(session[stage])
        host, config = found["HostConfig"], found["Config"]
        # As the kernel has it: engines write down in different ways what they were told.
        said = docker_daemon.engine.python(session[stage], BOUNDING)
        assert int(said.strip(), 16) == 0
        assert not host["Privileged"]
        assert not host["Binds"]
        assert "no-new-privileges" in host["SecurityOpt"]
        assert host["ReadonlyRootfs"] is True
        assert config["User"].partition(":")[0] not in ("", "0", "root")
        assert host["Memory"] == host["MemorySwap"] == limits.most_memory
        assert host["MemoryReservation"] == limits.memory
        assert limits.cpu_limit is not None
        assert host["NanoCpus"] == limits.cpu_limit * 1e9
        assert host["CpuShares"] == int(limits.cpus * 1024)
        assert 0 < host["PidsLimit"] <= 128
        assert host["RestartPolicy"]["Name"] in ("no", "")
        logs = host["LogConfig"]
        assert logs["Type"] == "local" or _log_size(docker_daemon, session[stage], logs) != "0B"
        labels = config["Labels"]
        assert labels["operatord.instance"] == docker_daemon.instance
        assert labels["operatord.session"] == session["session_id"]
        assert labels["operatord.stage"] == stage
        ports = found["NetworkSettings"]["Ports"] or {}
        published = [port for bindings in ports.values() for port in bindings or ()]
        # Some engines list what the owner of a shared namespace publishes with each who joined it.
        asked = [port for bindings in (host["PortBindings"] or {}).values() for port in bindings]
        assert len(asked) == (1 if stage == "segmentation" else 0)
        assert all(port["HostIp"] == "127.0.0.1" for port in published)


async def test_stages_cannot_reach_the_control_port(docker_daemon: DockerDaemon) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start")
    [network] = docker_daemon.engine.networks(docker_daemon.instance)
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    port = docker_daemon.address[1]
    program = f"""
import socket
for host in ("127.0.0.1", "{gateway}", "172.17.0.1", "host.docker.internal"):
    try:
        socket.create_connection((host, {port}), 1)
        print("reached", host)
    except OSError as exc:
        print("not", host)
"""
    said = await asyncio.to_thread(docker_daemon.engine.python, session["stream"], program)
    assert said.count("not") == 4
    assert "reached" not in said


@pytest.mark.every_engine
async def test_shared_network_pipeline_works(tmp_path: Path) -> None:
    config = {"pipelines": {"segmented": {"network": "shared"}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", count=20, env=FAST)
        owner = f"operatord_{session['session_id']}_segmentation"
        for stage in ("probe", "stream"):
            found = daemon.engine.client.inspect_container(session[stage])
            # Newer engines have looked the name up.
            ways = {f"container:{name}" for name in (owner, session["segmentation"])}
            assert found["HostConfig"]["NetworkMode"] in ways
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 20
        ended = await wire.call("session.wait", session_id=session["session_id"])
        assert ended["outcome"] == "completed"


@pytest.mark.parametrize("network", ["separate", "shared"])
async def test_four_stages_from_the_configuration_alone(tmp_path: Path, network: str) -> None:
    again = {"probe_ip": "{stream.host}", "probe_port": "{stream.port}",
             "stream_ip": "{again.host}", "stream_port": "{again.port}"}  # fmt: skip
    stages: Json = {
        "probe": {"image": "demo-probe", "port": 12345, "env": {"width": 64, "height": 48, "fps": 0}},
        "stream": {"image": "demo-stream", "port": 12346, "env": {"plain_stream": False}},
        "again": {"image": "demo-stream", "port": 12348, "env": {"plain_stream": False, **again}},
        "segmentation": {
            "image": "demo-segmentation", "port": 12347,
            "env": {"stream_ip": "{again.host}", "stream_port": "{again.port}"},
        },
    }  # fmt: skip
    config = {"pipelines": {"relayed": {"network": network, "stages": stages}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", pipeline="relayed", count=10)
        assert {"probe", "stream", "again", "segmentation"} <= set(session)
        hello, frames, _ = await receive(session["location"])
        assert (hello["width"], hello["height"]) == (64, 48)
        assert [set(parts) for _, parts in frames] == [{"image", "mask"}] * 10
        ended = await wire.call("session.wait", session_id=session["session_id"])
        assert (ended["outcome"], len(ended["exit_codes"])) == ("completed", 4)


async def refused_start(tmp_path: Path, stage: Json) -> Refused:
    """Start a plain session whose streaming stage is changed; it must fail and leave nothing."""
    config = {"pipelines": {"stream": {"stages": {"stream": stage}}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        refused = await wire.refusal("session.start", plain_stream=True)
        assert daemon.left() == []
        [session] = (await wire.call("session.list"))["sessions"]
        assert (session["phase"], session["outcome"]) == ("ended", "failed")
        assert (await wire.call("system.status"))["reserved"]["sessions"] == 0
        return refused


async def test_missing_image_is_named(tmp_path: Path) -> None:
    refused = await refused_start(tmp_path, {"image": "no-such-image:ever"})
    assert (refused.type, refused.data["image"]) == ("image_missing", "no-such-image:ever")


async def test_stage_that_exits_at_once_fails_with_its_last_log_lines(tmp_path: Path) -> None:
    refused = await refused_start(tmp_path, {"env": {"plain_stream": "perhaps"}})
    assert (refused.type, refused.data["stage"]) == ("start_failed", "stream")
    assert "plain_stream" in "".join(refused.data["log"])


async def test_stage_that_uses_too_much_memory_is_said_so(tmp_path: Path) -> None:
    sizes = {"memory": "6MiB", "memory_limit": None}
    config = {"pipelines": {"stream": {"stages": {"probe": sizes}}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        # Some engines need that much to start it, others have it run until its first pictures.
        env = {"probe": {"width": 1920, "height": 1920, "fps": 0}}
        started = await wire.call("session.start", plain_stream=True, env=env, wait="accepted")
        session = await wire.call("session.wait", session_id=started["session_id"])
        assert (session["outcome"], session["cause"]) == ("failed", "oom"), session


async def test_networks_of_others_are_passed_over(docker_daemon: DockerDaemon) -> None:
    whole, parted, *_ = ip_network(docker_daemon.subnets).subnets(new_prefix=24)
    free, taken, free_too, *_ = parted.subnets(new_prefix=28)
    engine, wire = docker_daemon.engine, await docker_daemon.wire()
    with engine.network(str(whole)), engine.network(str(taken)):
        for _ in range(2):
            await wire.call("session.start", plain_stream=True)
        assert sorted(docker_daemon.traces().subnets) == [free, free_too]


async def test_container_removed_by_somebody_fails_the_session(
    docker_daemon: DockerDaemon,
) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start", plain_stream=True)
    docker_daemon.engine.client.remove_container(session["probe"], force=True)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "exit")
    assert docker_daemon.left() == []


async def test_foreign_container_on_a_session_network_does_not_pin_it(
    docker_daemon: DockerDaemon,
) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start", plain_stream=True)
    [network] = docker_daemon.engine.networks(docker_daemon.instance)
    with docker_daemon.engine.container("demo-probe", network["Id"], {"count": "5"}):
        ended = await wire.call("session.stop", session_id=session["session_id"])
        assert ended["outcome"] == "stopped"
        assert docker_daemon.left() == []


async def test_logs_and_stats(docker_daemon: DockerDaemon) -> None:
    wire = await docker_daemon.wire()
    session = await wire.call("session.start", plain_stream=True)
    sid = session["session_id"]
    lines: list[Any] = (await wire.call("session.logs", session_id=sid, stage="stream"))["lines"]
    assert any('"listening"' in line["line"] for line in lines)
    stats = (await wire.call("session.stats", session_id=sid))["stages"]
    for stage in ("probe", "stream"):
        assert stats[stage]["memory"] > 0
        assert stats[stage]["memory_limit"] == 96 * 2**20
        assert stats[stage]["pids"] > 0
    await wire.call("session.stop", session_id=sid)
    assert (await wire.call("session.logs", session_id=sid))["lines"]


async def test_stop_takes_everything_away_at_once(fast_daemon: DockerDaemon) -> None:
    wire = await fast_daemon.wire()
    session = await wire.call("session.start")
    await wire.call(
        "session.stop", session_id=session["session_id"]
    )  # long before the grace is over
    assert fast_daemon.left() == []
