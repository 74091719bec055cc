# SPDX-License-Identifier: MIT
"""Pipelines: the chains of stages that an operator of the machine has configured.

A client chooses among them and fills in what they allow; it never names an image, a mount or a limit.
The last stage of a pipeline is the one whose port is the session's location.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from operatord_protocol.codec import suggestion
from operatord_protocol.messages import Session

from .units import Bytes

PROBE = "probe"
"""The stage that a registered probe takes the place of."""

StageName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\Z")]
_RESERVED = frozenset(Session.__struct_fields__)
ADDRESS = re.compile(r"\{([a-z][a-z0-9_]{0,31})\.(host|port)\}")
"""In an environment value: another stage's address, such as ``{stream.host}``."""
_OURS = re.compile(r"^OPERATORD_|_(ip|port)$")


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One container of a pipeline. Its reservation is also its limit."""

    image: Annotated[str, Meta(min_length=1, max_length=512)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    command: list[str] = []
    env: dict[EnvName, str | int | float | bool] = {}
    allow_env: list[EnvName] = []
    cpus: Annotated[float, Meta(gt=0, le=1024)] = 1.0
    memory: Bytes = Bytes(256 * 1024**2)
    pids: Annotated[int, Meta(ge=1, le=32768)] = 128


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stages in the order of the stream: each connects to the one before it."""

    network: Literal["shared", "separate"] = "separate"
    stages: dict[StageName, Stage]

    @property
    def location_stage(self) -> str:
        """The stage that requesters connect to."""
        return next(reversed(self.stages))


def problems(name: str, pipeline: Pipeline) -> list[str]:
    """Return a sentence for each thing in ``pipeline`` that contradicts itself."""
    where = f"pipelines.{name}"
    found = []
    if not pipeline.stages:
        found.append(f"{where}.stages: a pipeline needs at least one stage")
    ports = [stage.port for stage in pipeline.stages.values()]
    if pipeline.network == "shared" and len(set(ports)) < len(ports):
        found.append(f"{where}: with network: shared every stage needs a port of its own")
    for stage_name, stage in pipeline.stages.items():
        place = f"{where}.stages.{stage_name}"
        found += _stage_problems(place, stage_name, stage)
        found += _address_problems(place, stage, pipeline.stages)
    return found


def _stage_problems(where: str, name: str, stage: Stage) -> list[str]:
    found = []
    if name in _RESERVED:
        found.append(f"{where}: {name!r} is a member of every session; give the stage another name")
    for key in stage.allow_env:
        if _OURS.search(key):
            found.append(f"{where}.allow_env: {key} is set by the daemon and cannot be allowed")
    if stage.memory < 6 * 1024**2:
        found.append(f"{where}.memory: an engine wants at least 6MiB")
    return found


def _address_problems(where: str, stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    return [
        f"{where}.env.{key}: there is no stage {name!r}{suggestion(name, stages)}"
        for key, value in stage.env.items()
        for name, _ in ADDRESS.findall(env_text(value))
        if name not in stages
    ]


def env_text(value: str | int | float | bool) -> str:
    """Return an environment value as stages read it; booleans as the original wrote them."""
    return str(value)


def shipped() -> dict[str, Pipeline]:
    """Return the two pipelines that every installation has: the plain and the segmented stream."""
    frame_settings = ["fps", "width", "height", "seed"]
    probe = Stage(
        image="demo-probe", port=12345, cpus=0.5, memory=Bytes(96 * 1024**2), pids=32,
        allow_env=frame_settings,
    )  # fmt: skip
    plain = Stage(
        image="demo-stream", port=12346, cpus=0.5, memory=Bytes(96 * 1024**2), pids=64,
        env={"plain_stream": True}, allow_env=["policy"],
    )  # fmt: skip
    inner = msgspec.structs.replace(plain, env={"plain_stream": False})
    segmentation = Stage(
        image="demo-segmentation", port=12347, cpus=1.0, memory=Bytes(128 * 1024**2), pids=32,
        allow_env=["policy"],
    )  # fmt: skip
    return {
        "stream": Pipeline(network="shared", stages={"probe": probe, "stream": plain}),
        "segmented": Pipeline(
            network="shared",
            stages={"probe": probe, "stream": inner, "segmentation": segmentation},
        ),
    }
