# SPDX-License-Identifier: MIT
"""What stages reserve, what they may use, and where these contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.core.pipelines import Pipeline, Stage, problems, shipped
from operatord.core.units import Bytes

MIB = 2**20
SIZES = st.none() | st.integers(0, 512 * MIB).map(Bytes)


def found(stage: Stage) -> list[str]:
    return problems("x", Pipeline(stages={"camera": stage}))


def test_stage_that_says_nothing_reserves_little_and_may_use_what_is_idle() -> None:
    stage = Stage(image="i", port=1)
    assert (stage.cpus, stage.cpu_limit, stage.memory) == (0.1, None, 256 * MIB)
    assert (stage.memory_limit, stage.most_memory) == (None, 256 * MIB)
    assert (stage.gpus, stage.gpu_memory) == (0, 0)
    assert Pipeline(stages={"camera": stage}).reservations == "declared"


def test_stages_share_a_namespace_where_their_ports_differ_and_nobody_says_otherwise() -> None:
    camera, relay = Stage(image="i", port=1), Stage(image="i", port=2)
    assert Pipeline(stages={"camera": camera, "relay": relay}).namespaces == "shared"
    assert Pipeline(stages={"camera": camera, "relay": camera}).namespaces == "separate"
    said = Pipeline(network="separate", stages={"camera": camera, "relay": relay})
    assert said.namespaces == "separate"
    assert problems("x", Pipeline(stages={"camera": camera, "relay": camera})) == []


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        (
            Stage(image="i", port=1, memory=Bytes(8 * MIB), memory_limit=Bytes(7 * MIB)),
            "memory_limit: 7340032 bytes are fewer than memory reserves (8388608)",
        ),
        (
            Stage(image="i", port=1, memory=Bytes(MIB), memory_limit=Bytes(2 * MIB)),
            "memory_limit: an engine wants at least 6MiB",
        ),
        (Stage(image="i", port=1, memory=Bytes(MIB)), "memory: an engine wants at least 6MiB"),
        (
            Stage(image="i", port=1, cpus=2, cpu_limit=0.5),
            "cpu_limit: 0.5 cores are fewer than cpus reserves (2)",
        ),
        (
            Stage(image="i", port=1, gpu_memory=Bytes(MIB)),
            "gpu_memory: says what each of gpus needs, and gpus is 0",
        ),
    ],
)
def test_sizes_that_contradict_each_other(stage: Stage, problem: str) -> None:
    assert found(stage) == [f"pipelines.x.stages.camera.{problem}"]


def chained(**consumer: Any) -> list[str]:
    """Return what is wrong with a stage behind one that is called relay."""
    stages = {
        "relay": Stage(image="i", port=1),
        "view": Stage(**{"image": "i", "port": 2} | consumer),
    }
    return [
        each.removeprefix("pipelines.x.stages.view.")
        for each in problems("x", Pipeline(stages=stages))
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{rely.host}", "there is no stage 'rely'; did you mean 'relay'?"),
        ("{Relay.port}", "there is no stage 'Relay'; did you mean 'relay'?"),
        ("{relay.prot}", "a stage has host and port, and no 'prot'; did you mean 'port'?"),
        ("x{relay.name}", "a stage has host and port, and no 'name'; known: host, port"),
        ("{relay.}", "a stage has host and port, and no ''; known: host, port"),
        ("{relay.host:{relay.port}",
            "the address of a stage is written {relay.host}, without anything else in the braces"),
        ("{ relay.port }",
            "the address of a stage is written {relay.port}, without anything else in the braces"),
    ],
)  # fmt: skip
def test_slip_in_an_address_is_told_with_what_was_meant(value: str, problem: str) -> None:
    """N19"""
    assert chained(env={"A": value}) == [f"env.A: {problem}"]


@pytest.mark.parametrize(
    "value",
    [
        "{relay.host}:{relay.port}",
        "{",
        "{}",
        "{relay}",
        '{"a": {"b": 1.5}}',
        "{record.level}",
        "{x.port:d}",
    ],
)
def test_address_and_what_is_none_are_taken(value: str) -> None:
    """N19: other programs have a use for braces, too."""
    assert chained(env={"A": value}) == []


def test_address_in_a_command_is_told_where_it_is_filled_in() -> None:
    """N19"""
    [problem] = chained(command=["view", "--from={relay.host}"])
    assert problem.startswith("command[1]: {relay.host} is filled in in env only")
    assert problem.endswith("$relay_ip")
    assert chained(command=["view", "{record.host}", "{relay}"]) == []


def test_image_with_white_space_is_none() -> None:
    """N19"""
    assert chained(image="B C") == ["image: no image has white space in its name, and 'B C' has"]
    assert chained(image=f"b:1@sha256:{'0a' * 32}") == []
    by_id = chained(image=f"sha256:{'0a' * 32}", pull="missing")
    assert by_id == ["pull: no registry knows an image by its id; write its name"]
    for bad in ("b@sha256:0a", f"b@md5:{'0a' * 32}", f"b@sha256:{'0G' * 32}"):
        assert chained(image=bad)[0].startswith("image: after the @ comes sha256: and 64 digits")


def test_sizes_that_agree() -> None:
    for stage in (
        Stage(image="i", port=1, memory=Bytes(0), memory_limit=Bytes(6 * MIB)),
        Stage(image="i", port=1, memory=Bytes(8 * MIB), memory_limit=Bytes(8 * MIB)),
        Stage(image="i", port=1, cpus=0.5, cpu_limit=0.5),
        Stage(image="i", port=1, gpus=2, gpu_memory=Bytes(2**33)),
        Stage(image="i", port=1, gpus=1),
    ):
        assert found(stage) == []


@given(memory=st.integers(0, 512 * MIB).map(Bytes), limit=SIZES)
def test_accepted_stage_may_use_what_it_reserves(memory: Bytes, limit: Bytes | None) -> None:
    stage = Stage(image="i", port=1, memory=memory, memory_limit=limit)
    fits = 6 * MIB <= stage.most_memory >= stage.memory
    assert (found(stage) == []) == fits
    assert stage.most_memory == (memory if limit is None else limit)


def test_32_shipped_sessions_fit_on_two_cores_and_12_gib() -> None:
    for pipeline in shipped().values():
        stages = pipeline.stages.values()
        assert 32 * sum(stage.cpus for stage in stages) <= 2
        assert 32 * sum(stage.memory for stage in stages) <= 12 * 2**30
        assert sum(stage.memory for stage in stages) <= 128 * MIB


def test_shipped_stages_have_room_above_what_they_reserve() -> None:
    limits = {"probe": (0.5, 96), "stream": (0.5, 96), "segmentation": (1.0, 128)}
    for pipeline in shipped().values():
        for name, stage in pipeline.stages.items():
            assert (stage.cpu_limit, stage.most_memory) == (limits[name][0], limits[name][1] * MIB)
        assert pipeline.stages["probe"].env == {"fps": 30}
        assert "fps" in pipeline.stages["probe"].allow_env
