# SPDX-License-Identifier: MIT
"""A container is made of the image that its name stood for, and an image's own volumes go with it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import docker
import pytest
from engine_lab import IMAGE, Lab

from operatord.engines.base import ImageMissing

pytestmark = pytest.mark.engine


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")
    yield found
    found.close()


@pytest.fixture
def name(client: docker.APIClient) -> Iterator[str]:
    """An image's name that is gone afterwards, with what it stands for."""
    found = f"operatord-test-{uuid.uuid4().hex[:8]}:latest"
    client.tag(IMAGE, found.removesuffix(":latest"), "latest")
    yield found
    client.remove_image(found, force=True)


def change(client: docker.APIClient, name: str, change: str) -> str:
    """Let a name stand for another image, with one thing changed; return the image's id."""
    made = client.create_container(IMAGE, ["true"])["Id"]
    try:
        repository, _, tag = name.rpartition(":")
        return str(client.commit(made, repository, tag, changes=change)["Id"])
    finally:
        client.remove_container(made)


async def test_container_is_of_the_image_that_was_found_whatever_the_name_means_now(
    docker_lab: Lab, client: docker.APIClient, name: str
) -> None:
    engine, network = docker_lab.engine, await docker_lab.network()
    [before] = (await engine.image_ids([name])).values()
    one = await engine.create(docker_lab.plan(network, "idle", "one", image=name, image_id=before))
    changed = change(client, name, "LABEL changed=yes")
    two = await engine.create(docker_lab.plan(network, "idle", "two", image=name, image_id=before))
    [after] = (await engine.image_ids([name])).values()
    three = await engine.create(
        docker_lab.plan(network, "idle", "three", image=name, image_id=after)
    )
    found = [client.inspect_container(each)["Image"] for each in (one, two, three)]
    bare = [each.removeprefix("sha256:") for each in (*found, before, after, changed)]
    assert bare[:3] == [bare[3], bare[3], bare[4]]
    assert bare[4] == bare[5] != bare[3]


async def test_image_that_is_gone_is_called_by_its_name(docker_lab: Lab, name: str) -> None:
    network = await docker_lab.network()
    plan = docker_lab.plan(network, "idle", image=name, image_id=f"sha256:{'0' * 64}")
    with pytest.raises(ImageMissing, match=name):
        await docker_lab.engine.create(plan)


async def test_volumes_that_an_image_declares_go_with_its_container(
    docker_lab: Lab, client: docker.APIClient, name: str
) -> None:
    change(client, name, 'VOLUME ["/data"]')
    network = await docker_lab.network()
    container = await docker_lab.run_until_ready(network, "idle", image=name)
    [mount] = [
        each for each in client.inspect_container(container)["Mounts"] if each["Type"] == "volume"
    ]
    assert client.inspect_volume(mount["Name"])["Name"] == mount["Name"]
    await docker_lab.engine.remove(container)
    with pytest.raises(docker.errors.NotFound):
        client.inspect_volume(mount["Name"])
