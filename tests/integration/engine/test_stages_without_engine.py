# SPDX-License-Identifier: MIT
"""What an image may need, where no container engine is: what is warned of, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Json, Refused, clean_env, in_process, receive, run

PROCESS: Json = {"engine": "process"}
SECRET = "open sesame"


def stream(**stage: object) -> Json:
    return {"pipelines": {"stream": {"network": "auto", "stages": {"stream": stage}}}}


async def checked(tmp_path: Path, stage: str, *arguments: str) -> list[str]:
    """Return what ``check-config`` says of a stage; it must find nothing wrong."""
    file = tmp_path / "operatord.yaml"
    file.write_text(f"pipelines: {{stream: {{stages: {{stream: {stage}}}}}}}\n")
    found = await run(OPERATORD, "check-config", "--quiet", str(file), *arguments, env=clean_env())
    assert found[:2] == (0, "")
    return found[2].splitlines()


async def test_check_config_warns_of_what_gives_the_machine_away(tmp_path: Path) -> None:
    [warning] = await checked(
        tmp_path, "{volumes: [/var/run/docker.sock:/s]}", "--engine", "docker"
    )
    assert (
        "pipelines.stream.stages.stream.volumes[0]: this is the socket of a container engine"
        in warning
    )


async def test_check_config_looks_whether_a_secret_can_be_read(tmp_path: Path) -> None:
    token = tmp_path / "token"
    stage = f"{{user: 4321, secrets: {{t: {token}}}}}"
    [missing] = await checked(tmp_path, stage, "--engine", "docker")
    assert f"secrets.t: {token}: No such file or directory" in missing
    token.write_text(SECRET)
    token.chmod(0o600)
    [closed] = await checked(tmp_path, stage, "--engine", "docker")
    assert f"can read {token}, and the stage runs as 4321" in closed
    assert SECRET not in closed
    token.chmod(0o644)
    assert await checked(tmp_path, stage, "--engine", "docker") == []


async def test_check_config_says_what_a_local_process_does_not_get(tmp_path: Path) -> None:
    said = await checked(tmp_path, "{user: 7, shm_size: 1MiB, init: false}", "--engine", "process")
    assert [each.partition("stages.stream: ")[2] for each in said] == [
        "a local process cannot have user, so its sessions are refused",
        "shm_size, init: ignored for a local process",
    ]


@pytest.mark.parametrize(
    ("stage", "named"),
    [({"volumes": ["m:/m"]}, "volumes or secrets"), ({"user": 7}, "user"), ({"dns": ["::1"]}, "dns")],
)  # fmt: skip
async def test_local_process_that_would_miss_something_is_refused(
    tmp_path: Path, stage: Json, named: str
) -> None:
    async with in_process(tmp_path / "s", PROCESS, stream(**stage)) as lab:
        wire = await lab.wire()
        with pytest.raises(Refused) as refused:
            await wire.call("session.start", plain_stream=True)
        assert refused.value.type == "start_failed"
        assert f"has {named}, which a local process cannot have" in str(refused.value)


async def test_local_process_streams_without_what_only_confines_it(tmp_path: Path) -> None:
    stage = {"tmpfs": ["/scratch"], "shm_size": "1MiB", "cap_add": ["KILL"], "init": False}
    async with in_process(tmp_path / "s", PROCESS, stream(**stage)) as lab:
        wire = await lab.wire()
        session = await wire.call("session.start", plain_stream=True, count=3)
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 3
