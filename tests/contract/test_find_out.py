# SPDX-License-Identifier: MIT
"""What an engine says that it can do is what it does, and asking leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_lab import Lab

from operatord.engines.base import Capabilities, PortTaken, Publish
from operatord.engines.docker import calls as docker_calls
from operatord.engines.docker.client import APIClient
from operatord.engines.docker.ports import choose
from operatord.engines.process.engine import ProcessEngine


async def test_asking_leaves_nothing_behind_and_says_the_same_again(lab: Lab) -> None:
    """E3"""
    found = await lab.engine.find_out()
    assert found == lab.engine.capabilities
    assert await lab.engine.list_objects(lab.instance) == []


def test_local_processes_close_no_network_whatever_was_written_down(tmp_path: Path) -> None:
    """E3: they have the machine's; a journal of an earlier version may say something else."""
    engine = ProcessEngine(tmp_path)
    engine.assume(Capabilities())
    assert not engine.capabilities.closes_networks


@pytest.mark.engine
async def test_container_that_was_asked_with_is_an_orphan_when_we_die(
    docker_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed daemon leaves of it has the instance's label: the next one, or a sweep, removes it."""
    monkeypatch.setattr(docker_calls, "remove", lambda client, container_id: True)
    assert await docker_lab.engine.find_out() == docker_lab.engine.capabilities
    left = await docker_lab.engine.list_objects(docker_lab.instance)
    assert {(each.kind, each.status) for each in left} == {("container", "created")}
    monkeypatch.undo()


@pytest.mark.engine
@pytest.mark.parametrize("tries", [1, 9])
async def test_image_that_goes_while_it_is_asked_with_says_nothing_of_the_engine(
    docker_lab: Lab, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """E3: another one is taken; and if all go, nothing is known yet."""
    gone = {"Id": f"sha256:{'0' * 64}", "RepoTags": ["gone:latest"]}
    listed, images = 0, APIClient.images

    def images_of(client: APIClient) -> list[Any]:
        nonlocal listed
        listed += 1
        there: list[Any] = images(client)
        return [gone, *there] if listed <= tries else there

    monkeypatch.setattr(APIClient, "images", images_of)
    expected = docker_lab.engine.capabilities if tries == 1 else None
    assert await docker_lab.engine.find_out() == expected
    assert await docker_lab.engine.list_objects(docker_lab.instance) == []


@pytest.mark.engine
async def test_stage_of_which_nothing_is_assumed_runs_everywhere(docker_lab: Lab) -> None:
    """E3: the defaults are what every engine can; what a reaper is there for can be done without."""
    lab = docker_lab
    lab.engine.assume(Capabilities(reaps=False, takes_port_ranges=False))
    with_range = Publish("127.0.0.1", (20000, 20400))
    container_id = await lab.run_until_ready(await lab.network(), "idle", publish=with_range)
    published = (await lab.engine.inspect(container_id)).published
    assert published is not None
    assert 20000 <= published.port <= 20400


class Others:
    """An engine whose containers have ports."""

    def containers(self, **_: object) -> list[dict[str, object]]:
        return [
            {"Ports": [{"PublicPort": 20001}, {"PrivatePort": 80}]},
            {"Ports": None},
            {"Ports": [{"PublicPort": 20003}, {"PublicPort": 20004}]},
        ]


def test_port_that_a_container_has_is_not_chosen() -> None:
    client: APIClient = Others()  # type: ignore[assignment]
    # An address that is not this machine's: only the engine knows what is taken there.
    assert choose(Publish("192.0.2.1", (20001, 20002)), client).ports == (20002, 20002)
    one = Publish("192.0.2.1", (20001, 20001))
    with pytest.raises(PortTaken):
        choose(Publish("192.0.2.1", (20003, 20004)), client)
    assert choose(one, client) == one, "whether it is free is told at the start"
