# SPDX-License-Identifier: MIT
"""`operatord check-stage` as a command: the emulators pass as local processes and as containers."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import OPERATORD, clean_env, run

EMULATORS = ("demo-probe", "demo-stream", "demo-segmentation")
BASE = "operatord-python:bookworm"
WRITES = """
import os, socket
open("/var/tmp/mark", "w").close()
server = socket.create_server((os.environ["probe_ip"], int(os.environ["probe_port"])))
while True:
    server.accept()[0].sendall(b'{"type":"hello","stream":"probe","width":1,"height":1}' + bytes([10]))
"""
"""A program that writes to its image's files before it says a hello."""
LOCAL = ("--engine", "process", "--json")
DOCKER = ("--engine", "docker", "--json", "--timeout", "60")


async def check(*words: str) -> tuple[int, dict[str, Any], str]:
    """Return the exit code, what it has found, and what else it has said."""
    code, out, err = await run(OPERATORD, "check-stage", *words, env=clean_env())
    return code, json.loads(out) if out else {}, err


async def test_all_that_is_required_holds_for_the_emulators() -> None:
    patient = (*LOCAL, "--timeout", "30")
    answers = await asyncio.gather(*(check(image, *patient) for image in EMULATORS))
    for code, found, err in answers:
        failing = [each for each in found["checks"] if each["state"] == "does not hold"]
        assert (code, failing, found["passes"], found["late_bind"]) == (0, [], True, "native"), err
    assert [found["kind"] for _, found, _ in answers] == ["probe", "filter", "filter"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere-to-be-found",), "is not on this engine"),
        (("of-ones-own", "--command", "nosuchprogram"), "nosuchprogram cannot be run"),
        (("demo-probe", "--env", "count=3"), "the check sets this variable itself"),
        (("demo-probe", "--env", "count"), "expected KEY=VALUE"),
        (("demo-probe", "--kind", "probes"), "invalid choice"),
    ],
)
async def test_what_cannot_be_checked_is_a_sentence(words: tuple[str, ...], said: str) -> None:
    code, found, err = await check(*words, "--engine", "process")
    assert (code, found) == (2, {})
    assert said in err
    assert "Traceback" not in err


async def test_what_is_no_stage_asks_for_its_kind() -> None:
    """Programs that neither connect nor listen, and end at once; why one does is in what it has written."""
    broken = shlex.join((sys.executable, "-c", "import nosuchmodule"))
    silent, failing = await asyncio.gather(
        check("mine", "--command", "true", "--engine", "process"),
        check("mine", "--command", broken, "--engine", "process"),
    )
    assert silent[0] == failing[0] == 2
    assert "give --kind probe, filter or sink" in silent[2]
    assert "it ended with exit code 0, and wrote no error" in silent[2]
    said = "it ended with exit code 1, and wrote last: ModuleNotFoundError: No module named 'nosuchmodule'"
    assert said in failing[2]


async def test_the_kind_is_found_out() -> None:
    """The settings do not know the image; it connects upstream, and then ends, which is told as a fault."""
    script = (
        "import os, socket; socket.create_connection((os.environ['stream_ip'], "
        "int(os.environ['stream_port'])))"
    )
    words = ("mine", "--command", f'python3 -c "{script}"', "--timeout", "5", *LOCAL)
    code, found, err = await check(*words)
    assert (code, found["kind"]) == (1, "filter"), err
    assert found["checks"][0]["name"] == "hello"
    assert found["checks"][0]["state"] == "does not hold"


async def begun(env: dict[str, str], *words: str) -> asyncio.subprocess.Process:
    """Return a check of demo-segmentation that goes on."""
    process = await asyncio.create_subprocess_exec(
        *(OPERATORD, "check-stage", "demo-segmentation", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    assert process.stderr is not None
    assert b"demo-segmentation as a filter" in await process.stderr.readline()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_check_that_is_interrupted_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    env = {**clean_env(), "TMPDIR": str(tmp_path)}
    process = await begun(env, *LOCAL)
    process.send_signal(number)
    out, err = await process.communicate()
    assert (process.returncode, out) == (128 + number, b""), err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["process", pytest.param("docker", marks=pytest.mark.engine)])
async def test_what_a_killed_check_has_left_is_swept(tmp_path: Path, engine: str) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {**clean_env(), "TMPDIR": str(temporary)}
    process = await begun(env, "--engine", engine)
    process.kill()
    await process.communicate()
    [folder] = temporary.iterdir()
    instance = (folder / "check").read_text().split()[0]
    sweep = (OPERATORD, "sweep", "--engine", engine, "--state-dir", str(tmp_path / "state"))
    dry = await run(*sweep, "--dry-run", env=env)
    done = await run(*sweep, env=env)
    assert (dry[0], done[0]) == (0, 0), done
    assert list(temporary.iterdir()) == []
    if engine == "docker":
        network = f"network operatord_{instance} of session check-stage: its check-stage was killed"
        assert f"would remove {network}" in dry[1]
        assert f"removed {network}" in done[1]
        assert await left_over(instance) == []


@pytest.mark.engine
async def test_containers_are_checked_and_removed() -> None:
    """The bounds are told there; a program that writes to its image's files is told what to do."""
    writes = shlex.join(("python3", "-c", WRITES))
    good, bad = await asyncio.gather(
        check("demo-segmentation", *DOCKER),
        check(BASE, *DOCKER, "--kind", "probe", "--command", writes),
    )
    assert [each for each in good[1]["checks"] if each["state"] != "holds"] == []
    assert (good[0], good[1]["late_bind"]) == (0, "native"), good
    found = {each["name"]: each for each in bad[1]["checks"]}
    states = {name: found[name]["state"] for name in ("hello", "read-only", "nobody", "limits")}
    assert (bad[0], bad[1]["passes"]) == (1, False), bad
    assert (states["hello"], states["read-only"]) == ("does not hold", "does not hold"), found
    assert (states["nobody"], states["limits"]) == ("holds", "cannot be told"), found
    assert await left_over() == []


async def left_over(instance: str | None = None) -> list[str]:
    """Return what the engine has of any check, or of that instance."""
    import docker

    client = docker.APIClient(os.environ["DOCKER_HOST"], version="auto")
    try:
        ours = {
            "label": f"operatord.instance={instance}"
            if instance
            else "operatord.session=check-stage"
        }
        networks = [each["Name"] for each in client.networks(filters=ours)]
        return [each["Id"] for each in client.containers(all=True, filters=ours)] + networks
    finally:
        client.close()
