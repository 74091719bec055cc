# SPDX-License-Identifier: MIT
"""`operatord sweep` on a real engine, beside a daemon that works and after one that was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Json, Wire, clean_env, receive, run, served, until
from docker_lab import DockerDaemon, Engine, docker_served, viewer_at

pytestmark = pytest.mark.engine

NOBODYS = "0123456789ABCDEF"
FAST = {"probe": {"fps": 0}}


async def sweep(state_dir: Path, *arguments: str) -> list[str]:
    """Sweep with the settings of the daemon that has this state directory; return what was said."""
    command = (
        OPERATORD, "sweep", "--engine", "docker", "--state-dir", str(state_dir),
        "--config", str(state_dir.with_suffix(".yaml")), *arguments,
    )  # fmt: skip
    env = {**clean_env(), "DOCKER_HOST": os.environ["DOCKER_HOST"]}
    code, out, err = await run(*command, env=env)
    assert code == 0, err + out
    return out.splitlines()


async def sweeps(state_dir: Path, count: int) -> list[str]:
    """Sweep so often without any grace; return what was said."""
    return [line for _ in range(count) for line in await sweep(state_dir, "--grace", "0")]


def leave_over(engine: Engine, instance: str, name: str) -> tuple[str, str]:
    """Put a network and a container there with the labels of an instance; return their ids."""
    labels = {"operatord.instance": instance, "operatord.session": NOBODYS}
    network = engine.client.create_network(name, driver="bridge", labels=labels)["Id"]
    container = engine.client.create_container("demo-probe", labels=labels, name=f"{name}-probe")
    return network, container["Id"]


async def churn(wire: Wire, enough: asyncio.Event) -> list[str]:
    """Start sessions, a few at least, take their streams and let them end; return the outcomes."""
    outcomes: list[str] = []
    while len(outcomes) < 3 or not enough.is_set():
        session = await wire.call("session.start", count=3, plain_stream=True, env=FAST)
        await receive(session["location"])
        ended = await wire.call("session.wait", session_id=session["session_id"])
        outcomes.append(ended["outcome"])
    return outcomes


@pytest.mark.slow
async def test_nothing_of_a_working_daemon_is_touched_by_ten_sweeps(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s") as daemon:
        steady = await daemon.wire()
        kept = [await steady.call("session.start", plain_stream=plain) for plain in (True, False)]
        before = containers(daemon, kept)
        leave_over(daemon.engine, daemon.instance, f"left-{daemon.instance}")
        enough = asyncio.Event()
        churning = asyncio.gather(*[churn(await daemon.wire(), enough) for _ in range(2)])
        async with viewer_at(kept[0]["location"]) as viewer:
            # One finds what is left over; several at a time would each want to remove it.
            said = await sweeps(tmp_path / "s", 1)
            beside = (sweeps(tmp_path / "s", count) for count in (3, 3, 3))
            said += [line for lines in await asyncio.gather(*beside) for line in lines]
            await viewer.frames(30)
        enough.set()
        assert {outcome for outcomes in await churning for outcome in outcomes} == {"completed"}
        assert {line for line in said if NOBODYS not in line} == {"nothing is left over"}
        assert len([line for line in said if line.startswith("removed")]) == 2
        assert containers(daemon, kept) == before
        for session in kept:
            found = await steady.call("session.get", session_id=session["session_id"])
            assert found["phase"] == "running"


def containers(daemon: DockerDaemon, sessions: list[Json]) -> list[tuple[str, str]]:
    """Return ids and times of start of the sessions' containers."""
    ids = {value for each in sessions for name, value in each.items() if name in STAGES}
    inspect = daemon.engine.client.inspect_container
    return sorted((each, inspect(each)["State"]["StartedAt"]) for each in ids)


STAGES = ("probe", "stream", "segmentation")


async def test_foreign_objects_and_those_of_other_instances_stay(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s") as daemon:
        other = f"other{daemon.instance}"
        theirs = leave_over(daemon.engine, other, f"theirs-{daemon.instance}")
        try:
            assert await sweep(tmp_path / "s", "--grace", "0") == ["nothing is left over"]
            assert len(daemon.engine.left(other)) == 2
        finally:
            daemon.engine.client.remove_container(theirs[1], force=True)
            daemon.engine.client.remove_network(theirs[0])


async def test_dry_run_only_says_it(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s") as daemon:
        leave_over(daemon.engine, daemon.instance, f"left-{daemon.instance}")
        said = await sweep(tmp_path / "s", "--grace", "0", "--dry-run")
        assert sorted(line.split(" left")[0] for line in said) == [
            "would remove container", "would remove network",
        ]  # fmt: skip
        assert len(daemon.left()) == 2
        said = await sweep(tmp_path / "s", "--grace", "0")
        assert [line.split(" left")[0] for line in said] == ["removed container", "removed network"]
        assert daemon.left() == []


async def test_half_started_session_of_a_killed_daemon_goes_and_the_running_one_stays(
    tmp_path: Path,
) -> None:
    # The first two stages are those of a session that runs.
    failpoint = {"OPERATORD_FAILPOINT": "engine.start.after:4"}
    async with docker_served(tmp_path / "s", env=failpoint) as daemon:
        wire = await daemon.wire()
        kept = await wire.call("session.start", plain_stream=True)
        wire.begin("session.start")
        assert await daemon.daemon.ended() == -signal.SIGKILL
        assert len(daemon.left()) > 3, "something of the second session is there"
        said = await sweep(tmp_path / "s", "--grace", "1")
        assert said != ["nothing is left over"]
        assert not any(kept["session_id"] in line for line in said)
        await until(lambda: len(daemon.left()) == 3, "two stages and a network are left")
        await viewed(kept["location"])
        # The next daemon takes the one on, and ends it when it is told to stop.
        config = {"subnets": daemon.subnets}
        env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
        async with served(tmp_path / "s", "--engine", "docker", config=config, env=env) as second:
            again = await second.wire()
            found = await again.call("session.get", session_id=kept["session_id"])
            assert found["phase"] == "running"
            outcomes = {
                s["cause"] for s in (await again.call("session.list"))["sessions"] if "cause" in s
            }
            assert outcomes <= {"restart"}
            await again.close()


async def viewed(location: Json) -> None:
    async with viewer_at(location) as viewer:
        await viewer.frames(3)
