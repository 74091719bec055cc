# SPDX-License-Identifier: MIT
"""The daemon in a container, by Dockerfile and compose.yaml, on a real engine: from the build to nothing."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import shared_host

sys.path.append(str(Path(__file__).parents[1] / "acceptance"))  # docker_lab

from compose_lab import Project
from compose_lab import project as compose_project
from daemon_lab import until
from docker_lab import viewer_at
from source_lab import host_probe

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PLAIN = {"plain_stream": True, "count": 60, "env": {"probe": {"fps": 60}}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("compose")
    with shared_host.block() as subnets, compose_project("operatord", folder, str(subnets)) as made:
        yield made


async def end_whole(project: Project) -> None:
    """Stop what runs, and remove the rest with it."""
    for each in (await project.call("session.list"))["sessions"]:
        await project.call("session.stop", session_id=each["session_id"])


async def test_it_is_up_as_nobody_and_as_process_1(project: Project) -> None:
    await project.up()
    facts = project.status()
    assert facts["Uid"].split() == ["7733"] * 4
    assert facts["NSpid"].split()[-1] == "1"
    assert (facts["CapEff"], facts["NoNewPrivs"]) == ("0" * 16, "1")
    assert "state up" in project.run("exec", "-T", "operatord", "operatorctl", "status")


async def test_facts_are_the_hosts(project: Project) -> None:
    status = await project.call("system.status")
    assert status["host"]["cpus"] == os.cpu_count()
    assert status["host"]["memory"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


async def test_a_session_from_the_host_has_all_its_frames(project: Project) -> None:
    session = await project.call("session.start", lease="pinned", **PLAIN)
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(60)
        end = await viewer.rest()
    assert end is not None and (end["frames"], end["dropped"]) == (60, 0)


async def test_a_probe_that_only_the_host_reaches_is_relayed(project: Project) -> None:
    async with host_probe(count="30", fps="60") as port:
        found = await project.call("probe.register", name="bed", host="127.0.0.1", port=port)
        assert found["state"] == "up"
        session = await project.call(
            "session.start", probe="bed", plain_stream=True, lease="pinned"
        )
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(30)
            assert (await viewer.rest() or {})["type"] == "end"


@pytest.mark.parametrize("way", ["kill -9", "restart"])
async def test_its_next_life_takes_sessions_on(project: Project, way: str) -> None:
    session = await project.call("session.start", plain_stream=True, lease="pinned")
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(3)
        before = project.inspect()["State"]["Pid"]
        if way == "restart":
            project.run("restart", project.service)
        else:
            os.kill(before, signal.SIGKILL)
        await until(
            lambda: project.inspect()["State"]["Pid"] not in (0, before), "it is another process"
        )
        await project.healthy()
        found = await project.call("session.get", session_id=session["session_id"])
        assert (found["phase"], found["location"]) == ("running", session["location"])
        await viewer.frames(30)
    await project.call("session.stop", session_id=session["session_id"])


async def test_stop_is_heard_at_once_and_down_leaves_nothing(project: Project) -> None:
    await end_whole(project)
    project.run("stop", project.service)
    state = project.inspect()["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    project.run("down", "--volumes")
    assert project.objects() == []


async def test_with_a_published_port_and_a_token(project: Project, tmp_path: Path) -> None:
    with (
        shared_host.block() as subnets,
        compose_project("published", tmp_path, str(subnets), project.image) as other,
    ):
        make = ("operatord", "token", "new", "ada", "--role", "user")
        said = other.run("run", "--rm", "-T", other.service, *make)
        [token] = re.findall(r"^opd_\S+", said, re.MULTILINE)
        await other.up()
        wire = await other.wire(token)
        session = await wire.call("session.start", lease="pinned", **PLAIN)
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(60)
            assert (await viewer.rest() or {})["dropped"] == 0
        await wire.call("session.wait", session_id=session["session_id"], phase="ended")
        await wire.close()
