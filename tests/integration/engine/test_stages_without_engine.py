# SPDX-License-Identifier: MIT
"""What an image may need, where no container engine is: what is warned of, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Json, Refused, Wire, clean_env, in_process, receive, run, served

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


def with_file(path: Path) -> Json:
    probe = {"env_file": [str(path)], "env": {"fps": 0, "height": 16}}
    return {"pipelines": {"stream": {"stages": {"probe": probe}}}}


async def width_and_height(wire: Wire) -> tuple[int, int]:
    session = await wire.call("session.start", plain_stream=True, count=1)
    hello, _, _ = await receive(session["location"])
    return hello["width"], hello["height"]


async def test_stage_gets_what_its_file_has_below_its_env_and_a_reload_reads_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "probe.env"
    file.write_text("# of the lab\nwidth=24\nheight=48\n")
    config = with_file(file)
    async with served(tmp_path / "s", "--engine", "process", config=config) as daemon:
        wire = await Wire.connect(daemon.address)
        assert await width_and_height(wire) == (24, 16)
        assert (await wire.call("system.reload"))["changed"] == []
        file.write_text("width=40\n")
        assert (await wire.call("system.reload"))["changed"] == ["pipelines"]
        assert await width_and_height(wire) == (40, 16)
        file.write_text(f"width=40\n{SECRET}\n")
        with pytest.raises(Refused) as refused:
            await wire.call("system.reload")
        assert "pipelines.stream.stages.probe.env_file[0]: line 2 is not NAME=VALUE" in str(
            refused.value
        )
        assert not any(each in str(refused.value) for each in (SECRET, str(tmp_path)))
        await wire.close()


async def test_what_is_in_such_a_file_is_printed_by_nobody(tmp_path: Path) -> None:
    file, settings = tmp_path / "probe.env", tmp_path / "operatord.yaml"
    file.write_text(f"phrase={SECRET}\n")
    settings.write_text(json.dumps(with_file(file)))
    code, out, _ = await run(OPERATORD, "check-config", str(settings), env=clean_env())
    assert (code, str(file) in out, SECRET in out) == (0, True, False)
    file.unlink()
    code, out, err = await run(OPERATORD, "check-config", str(settings), env=clean_env())
    assert (code, out) == (2, "")
    assert "probe.env_file[0]: the file cannot be read: No such file or directory" in err
