# SPDX-License-Identifier: MIT
"""Where a Docker Engine publishes sessions, by `advertise_host`, and what is said when that cannot be."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import shared_host
from daemon_lab import Wire, receive, served
from docker_lab import docker_served

pytestmark = pytest.mark.engine

ELSEWHERE = "192.0.2.77"
"""An address that no machine has: for documentation (RFC 5737)."""
OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Starts a program where only its own loopback is to be seen, as in a container."""


@pytest.mark.parametrize("network", ["shared", "separate"])
async def test_name_is_published_on_its_address_only(tmp_path: Path, network: str) -> None:
    """F1: the engine is told a number, and the location has the name."""
    config = {"advertise_host": "localhost", "pipelines": {"stream": {"network": network}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True, count=3)
        location = session["location"]
        assert location["host"] == "localhost"
        assert location["url"] == f"tcp://localhost:{location['port']}"
        containers = daemon.engine.containers(daemon.instance)
        published = {port["IP"] for c in containers for port in c["Ports"] if "PublicPort" in port}
        assert published == {"127.0.0.1"}
        _, frames, _ = await receive(location)
        assert len(frames) == 3


async def test_address_that_the_engines_host_has_not_is_blamed_on_the_setting(
    tmp_path: Path,
) -> None:
    """F6: a bad setting is no engine that is away, and no reason to try again."""
    async with docker_served(tmp_path / "s", config={"advertise_host": ELSEWHERE}) as daemon:
        wire = await daemon.wire()
        for pipeline in ("stream", "segmented"):
            refused = await wire.refusal("session.start", pipeline=pipeline)
            assert (refused.type, refused.data["retryable"]) == ("start_failed", False)
            assert "`advertise_host`" in refused.message
        assert daemon.left() == []
        assert await daemon.daemon.logged("cannot assign requested address")


@pytest.fixture
def image_without_command() -> Iterator[str]:
    with docker.APIClient(os.environ["DOCKER_HOST"], version="auto") as client:
        empty = io.BytesIO()
        with tarfile.open(fileobj=empty, mode="w"):
            pass
        name = f"operatord-no-command-{os.getpid()}"
        client.import_image_from_data(empty.getvalue(), repository=name)
        yield name
        client.remove_image(name, force=True)  # a daemon of another test may ask with it


@pytest.mark.parametrize("late_bind", ["native", "shim", "off"])
async def test_image_without_a_command_is_said_to_have_none(
    tmp_path: Path, image_without_command: str, late_bind: str
) -> None:
    """F6: the answer says what is wrong with the configuration, whatever the engine would say."""
    stage = {"image": image_without_command, "late_bind": late_bind}
    config = {"pipelines": {"stream": {"stages": {"probe": stage}}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        refused = await wire.refusal("session.start", plain_stream=True)
        assert refused.type == "start_failed"
        assert "has no command of its own: set the stage's `command`" in refused.message


async def test_daemon_that_cannot_reach_what_its_engine_publishes_says_so(tmp_path: Path) -> None:
    """F16: at once, and with the setting that helps; to wait longer would not."""
    control = tmp_path / "control.sock"
    with shared_host.block() as subnets:
        config = {"unix": str(control), "subnets": str(subnets), "start_timeout": 60}
        env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
        async with served(
            tmp_path / "s", "--engine", "docker", config=config, env=env, below=OWN_NETWORK
        ) as daemon:
            await daemon.logged(f"listening on {control}")
            wire = await Wire.connect(control)
            try:
                refused = await wire.refusal("session.start", plain_stream=True)
            finally:
                await wire.close()
            assert refused.type == "start_failed"
            assert "refuses connections from the daemon" in refused.message
            assert "`advertise_host`" in refused.message
            assert "start_timeout" not in str(refused.data)
