# SPDX-License-Identifier: MIT
"""All that is asked of an engine works the same, whichever way leads there: TLS or ssh."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from engine_lab import DockerLab, Lab
from shared_host import free_port
from sshd import ssh_server

from operatord.engines.base import Engine, NotThere
from operatord.engines.docker.engine import DockerEngine
from operatord.engines.docker_host.endpoint import Endpoint

pytestmark = pytest.mark.engine


class FarLab(DockerLab):
    """The shared engine, reached in another way."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        super().__init__(endpoint.url)

    def another_engine(self, instance: str) -> Engine:
        return DockerEngine(self._endpoint, instance)


@contextlib.contextmanager
def behind_tls(folder: Path, engine: str) -> Iterator[Endpoint]:
    """Let a socat end the encryption in front of the engine."""
    if shutil.which("socat") is None:
        pytest.skip("there is no socat")
    authority, port = Authority(folder), free_port()
    certificate, key = authority.sign("engine")
    listen = (
        f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,cert={certificate},key={key},"
        f"cafile={authority.certificate},verify=1"
    )
    command = ["socat", "-d", "-d", listen, f"UNIX-CONNECT:{engine}"]
    log = folder / "socat.log"
    with log.open("wb") as sink, subprocess.Popen(command, stderr=sink) as process:
        try:
            while b"listening" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
            yield Endpoint(f"tcp://127.0.0.1:{port}", authority.client())
        finally:
            process.terminate()


@pytest.fixture(params=["tls", "ssh"])
async def far_lab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lab]:
    engine = os.environ["DOCKER_HOST"]
    with contextlib.ExitStack() as stack:
        if request.param == "tls":
            endpoint = stack.enter_context(behind_tls(tmp_path, engine.removeprefix("unix://")))
        else:
            pytest.importorskip("paramiko")
            server = stack.enter_context(
                ssh_server(tmp_path / "ssh", f"SetEnv DOCKER_HOST={engine}")
            )
            monkeypatch.setenv("HOME", str(tmp_path / "ssh" / "home"))
            endpoint = Endpoint(server.url)
        lab = FarLab(endpoint)
        await lab.open()
        try:
            yield lab
        finally:
            await lab.close()


async def test_stage_lives_is_watched_and_measured(far_lab: Lab) -> None:
    """E4, E5: events, logs, figures."""
    network = await far_lab.network()
    container_id = await far_lab.run_until_ready(network, "idle")
    await far_lab.engine.alive()
    assert (await far_lab.engine.stats(container_id)).memory
    talks = await far_lab.run_until_ended(network, "talks", stage="talks")
    lines = await far_lab.output(talks)
    # The engine reads the two streams side by side: only within each there is an order.
    assert [line.line for line in lines if line.stream == "stdout"] == ["one", "two"]
    assert [line.line for line in lines if line.stream == "stderr"] == ["oops"]
    assert await far_lab.engine.logs(talks, 1) == lines[-1:]


async def test_asking_what_it_can_do_closes_its_connections(far_lab: Lab) -> None:
    """E3: one that carries an input is closed by whoever attached to it."""
    assert await far_lab.engine.find_out() == far_lab.engine.capabilities
    gc.collect()  # what is found open now is warned of, and a warning is an error


async def test_input_is_held_heard_and_ends_with_the_stage(far_lab: Lab) -> None:
    """E4, E5: what slots need."""
    network = await far_lab.network()
    code = "print('ready'); print('heard', input())"
    asks = await far_lab.run_until_ready(
        network, "idle", command=("python3", "-u", "-c", code), stdin=True
    )
    held = await far_lab.engine.attach_stdin(asks)
    assert held.stirred is not None
    async with asyncio.timeout(60):
        await held.stirred.wait()
    held.send(b"a word\n")
    assert [line.line for line in await far_lab.output(asks)] == ["ready", "heard a word"]
    held.close()
    idle = await far_lab.run_until_ready(network, "idle", stage="idle", stdin=True)
    held = await far_lab.engine.attach_stdin(idle)
    await far_lab.engine.stop(idle, grace=1)
    async with asyncio.timeout(60):
        while not held.closed:
            await asyncio.sleep(0.01)
    with pytest.raises(NotThere):
        held.send(b"too late\n")


async def test_log_that_is_followed_can_be_let_go_of(far_lab: Lab) -> None:
    """E5: whoever reads it waits in a library, and is woken."""
    container_id = await far_lab.run_until_ready(await far_lab.network(), "idle")
    lines = far_lab.engine.follow_logs(container_id, 10)
    assert (await anext(lines)).line == "ready"
    further = asyncio.ensure_future(anext(lines))
    await asyncio.wait([further], timeout=0.1)
    further.cancel()
    await asyncio.gather(further, return_exceptions=True)
    await lines.aclose()
    await far_lab.engine.alive()


async def test_many_calls_at_once_are_all_answered(far_lab: Lab) -> None:
    """E5: more than one connection of ssh's carries."""
    container_id = await far_lab.run_until_ready(await far_lab.network(), "idle")
    looks = [far_lab.engine.inspect(container_id) for _ in range(20)]
    stats = [far_lab.engine.stats(container_id) for _ in range(8)]
    states = await asyncio.gather(*looks)
    await asyncio.gather(*stats)
    assert {state.status for state in states} == {"running"}
