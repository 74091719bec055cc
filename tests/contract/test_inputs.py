# SPDX-License-Identifier: MIT
"""Stages that wait on their standard input for what they are to do, by themselves or behind a shell."""

from __future__ import annotations

import asyncio
import gc
import http.client
from typing import Any

import pytest
from daemon_lab import PATIENCE
from engine_lab import IMAGE, Lab

from operatord.engines.base import EngineFailed, NotThere, Publish
from operatord.engines.docker import stdin

ECHO = ("python3", "-c", "print('ready', flush=True); print('heard', input())")
"""Writes each line in one piece: of lines in several, a busy Podman was seen to lose some."""
SHOW = ("python3", "-c", "import os; print(os.environ['WORD'], os.environ.get('OTHER'))")
SERVE = ("sh", "-c", 'exec python3 -m http.server --bind "$ADDRESS" "$WHERE"')


async def test_line_that_is_sent_is_heard(real_lab: Lab) -> None:
    lab = real_lab
    container_id = await lab.run_until_ready(await lab.network(), "idle", command=ECHO, stdin=True)
    held = await lab.engine.attach_stdin(container_id)
    assert not held.closed
    held.send(b"a word\n")
    assert [line.line for line in await lab.output(container_id)] == ["ready", "heard a word"]
    held.close()
    held.close()


@pytest.mark.engine
async def test_what_was_said_before_somebody_holds_the_input_stirs(docker_lab: Lab) -> None:
    lab = docker_lab
    container_id = await lab.run_until_ready(await lab.network(), "idle", command=ECHO, stdin=True)
    for _ in range(10):  # it may come with the engine's answer, or after it
        held = await lab.engine.attach_stdin(container_id)
        assert held.stirred is not None
        async with asyncio.timeout(PATIENCE):
            await held.stirred.wait()
        held.close()


@pytest.mark.engine
async def test_input_that_cannot_be_held_at_once_is_tried_again_while_the_stage_runs(
    docker_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman's monitor of a container now and then refuses the connection that this takes."""
    lab, tries, attach = docker_lab, iter((True, True, False)), stdin.attach

    def sometimes(*arguments: Any) -> stdin.AttachedStdin:
        if next(tries, True):
            raise EngineFailed("connection refused")
        return attach(*arguments)

    monkeypatch.setattr(stdin, "attach", sometimes)
    container_id = await lab.run_until_ready(await lab.network(), "idle", command=ECHO, stdin=True)
    held = await lab.engine.attach_stdin(container_id)
    held.send(b"a word\n")
    assert [line.line for line in await lab.output(container_id)] == ["ready", "heard a word"]
    held.close()
    with pytest.raises(NotThere, match="has ended"):
        await lab.engine.attach_stdin(container_id)


@pytest.mark.engine
async def test_answer_that_an_input_came_with_is_closed_from_the_top(
    docker_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E11: what is closed below first cannot be closed above, and newer Pythons say so on stderr."""
    failed = []
    close = http.client.HTTPResponse.close

    def closed(response: http.client.HTTPResponse) -> None:
        try:
            close(response)
        except ValueError as exc:
            failed.append(exc)

    monkeypatch.setattr(http.client.HTTPResponse, "close", closed)
    lab = docker_lab
    container_id = await lab.run_until_ready(await lab.network(), "idle", command=ECHO, stdin=True)
    (await lab.engine.attach_stdin(container_id)).close()
    gc.collect()
    assert failed == []


async def test_end_of_a_stage_is_noticed_at_its_input(lab: Lab) -> None:
    container_id = await lab.run_until_ready(await lab.network(), "idle", stdin=True)
    held = await lab.engine.attach_stdin(container_id)
    await lab.engine.stop(container_id, grace=1)
    async with asyncio.timeout(PATIENCE):
        while not held.closed:
            await asyncio.sleep(0.01)
    with pytest.raises(NotThere):
        held.send(b"too late\n")
    held.close()


async def test_shell_becomes_the_command_once_it_has_its_environment(real_lab: Lab) -> None:
    lab = real_lab
    container_id = await lab.run(await lab.network(), "idle", command=SHOW, stdin=True, shim=True)
    held = await lab.engine.attach_stdin(container_id)
    assert (await lab.engine.inspect(container_id)).status == "running"
    held.send(b"WORD=with blanks; and $signs 'quoted' \"twice\" `so`\n\n")
    [line] = await lab.output(container_id)
    assert line.line == "with blanks; and $signs 'quoted' \"twice\" `so` None"
    held.close()


@pytest.mark.engine
async def test_foreign_image_waits_warm_and_serves_where_it_is_told(docker_lab: Lab) -> None:
    lab = docker_lab
    container_id = await lab.run(
        await lab.network(), "idle", image=IMAGE, command=SERVE, stdin=True, shim=True,
        publish=Publish("127.0.0.1"), memory=128 << 20,
    )  # fmt: skip
    held = await lab.engine.attach_stdin(container_id)
    published = (await lab.engine.inspect(container_id)).published
    assert published is not None
    held.send(b"ADDRESS=0.0.0.0\nWHERE=12345\n\n")
    async with asyncio.timeout(PATIENCE):
        while (status := await asyncio.to_thread(_status, published.host, published.port)) is None:
            await asyncio.sleep(0.01)
    assert status == 200
    held.close()


def _status(host: str, port: int) -> int | None:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
