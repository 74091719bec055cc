# SPDX-License-Identifier: MIT
"""Pulls from a small registry: by name, by digest, refused, silent, and from one that is absent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest
from daemon_lab import PATIENCE
from engine_lab import Lab

from operatord.engines.base import Pulled, PullFailed

pytestmark = pytest.mark.engine

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer() -> bytes:
    """Return a file system with one file that no other image has, so that an engine has to fetch it."""
    text = os.urandom(200_000)
    info = tarfile.TarInfo("data")
    info.size = len(text)
    with io.BytesIO() as whole:
        with tarfile.open(fileobj=whole, mode="w") as tar:
            tar.addfile(info, io.BytesIO(text))
        return whole.getvalue()


class Registry(ThreadingHTTPServer):
    """Has one image, under the name ``lab/camera``; asks for a login for what is below ``secret``."""

    daemon_threads = True

    def __init__(self) -> None:
        tar = layer()
        packed = gzip.compress(tar)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/data"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
            }
        ).encode()
        parts = [(CONFIG, config), (LAYER, packed)]
        described = [
            {"mediaType": kind, "size": len(part), "digest": digest(part)} for kind, part in parts
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described[0],
            "layers": described[1:],
        }
        self.manifest = json.dumps(manifest).encode()
        self.blobs = {digest(part): part for part in (config, packed, self.manifest)}
        self.asked = threading.Event()
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), Answers)
        self.image = f"127.0.0.1:{self.server_port}/lab/camera"

    def named(self, name: str) -> str:
        return f"127.0.0.1:{self.server_port}/{name}"


class Answers(BaseHTTPRequestHandler):
    server: Registry

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        _, _, *names, last = self.path.split("/")
        if "silent" in names:
            self.server.asked.set()
            self.server.go_on.wait(PATIENCE)
            return None
        if "secret" in names:
            return self._say(
                401, b"{}", "application/json", {"WWW-Authenticate": 'Basic realm="lab"'}
            )
        if names == []:
            return self._say(200, b"{}", "application/json", {})
        if names[:2] != ["lab", "camera"]:
            error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            return self._say(404, json.dumps(error).encode(), "application/json", {})
        data = self.server.blobs.get(last, self.server.manifest)
        kind = MANIFEST if data is self.server.manifest else "application/octet-stream"
        return self._say(200, data, kind, {"Docker-Content-Digest": digest(data)})

    def _say(self, status: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")
    yield found
    found.close()


@pytest.fixture
def registry(client: docker.APIClient) -> Iterator[Registry]:
    with Registry() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.go_on.set()
        found.shutdown()
        thread.join()
    for host in ("127.0.0.1", "localhost"):
        with contextlib.suppress(docker.errors.NotFound):
            client.remove_image(found.image.replace("127.0.0.1", host), force=True)


async def pulled(lab: Lab, image: str) -> list[Pulled]:
    return [word async for word in lab.engine.pull(image)]


@pytest.fixture
def is_podman(client: docker.APIClient) -> bool:
    return any(each["Name"] == "Podman Engine" for each in client.version()["Components"])


@pytest.fixture
def wants_tls(client: docker.APIClient, is_podman: bool) -> bool:
    """Whether the engine wants TLS even on loopback, as Podman does if it is not told otherwise."""
    if not is_podman:
        return False
    info = client.get(f"{client.base_url}/v4.0.0/libpod/info").json()
    return not info["registries"].get("127.0.0.1", {}).get("Insecure")


async def test_image_comes_and_is_there_by_its_digest_too(
    docker_lab: Lab, registry: Registry, wants_tls: bool
) -> None:
    if wants_tls:
        with pytest.raises(PullFailed, match="speaks no TLS"):
            await pulled(docker_lab, registry.image)
        return
    by_digest = f"{registry.image}@{digest(registry.manifest)}"
    assert await docker_lab.engine.image_ids([registry.image, by_digest]) == {}
    words = await pulled(docker_lab, by_digest)
    assert words[-1].done == words[-1].total
    ids = await docker_lab.engine.image_ids([by_digest])
    await pulled(docker_lab, registry.image)
    assert await docker_lab.engine.image_ids([registry.image, by_digest]) == {
        registry.image: ids[by_digest],
        by_digest: ids[by_digest],
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lab/other:2", "the registry has no image"),
        ("secret/camera", "asks for a login"),
    ],
)
async def test_refusal_is_a_sentence_that_says_what_to_do(
    docker_lab: Lab, registry: Registry, wants_tls: bool, name: str, says: str
) -> None:
    image = registry.named(name)
    with pytest.raises(PullFailed, match="speaks no TLS" if wants_tls else says) as failed:
        await pulled(docker_lab, image)
    assert failed.value.image == image


async def test_registry_without_tls_is_named_where_that_is_wanted(
    docker_lab: Lab, registry: Registry, is_podman: bool
) -> None:
    """Of all that is on loopback, Podman is told of one address that it may do without."""
    image = registry.image.replace("127.0.0.1", "localhost")
    if not is_podman:
        await pulled(docker_lab, image)  # an engine may say nothing of a layer that comes quickly
        assert image in await docker_lab.engine.image_ids([image])
        return
    with pytest.raises(PullFailed, match="speaks no TLS"):
        await pulled(docker_lab, image)


async def test_registry_that_is_not_there(docker_lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(PullFailed, match="is not reached from the engine's machine"):
        await pulled(docker_lab, f"127.0.0.1:{port}/lab/camera")


async def test_silent_registry_holds_up_no_other_call_and_can_be_left(
    docker_lab: Lab, registry: Registry, wants_tls: bool
) -> None:
    if wants_tls:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            image = f"127.0.0.1:{silent.getsockname()[1]}/lab/camera"
            waiting = asyncio.create_task(pulled(docker_lab, image))
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                await left(docker_lab, waiting)
        return
    waiting = asyncio.create_task(pulled(docker_lab, registry.named("silent/camera")))
    assert await asyncio.to_thread(registry.asked.wait, PATIENCE)
    await left(docker_lab, waiting)


async def left(lab: Lab, waiting: asyncio.Task[list[Pulled]]) -> None:
    """See that other calls are answered meanwhile, and that it ends when it is cancelled."""
    begun = time.monotonic()
    assert await lab.engine.image_ids(["no-such"]) == {}
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert time.monotonic() - begun < PATIENCE
