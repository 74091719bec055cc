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

from operatord_protocol.checking import suggestion
from operatord_protocol.messages import Session

from .stage_options import (
    StageOptions,
    egress_warnings,
    option_problems,
    option_warnings,
    process_warnings,
)
from .units import Bytes

PROBE = "probe"
"""The stage that a registered probe takes the place of."""

StageName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_]{0,31}\Z",
        description="up to 32 small letters, digits and _, a letter first",
    ),
]
Namespaces = Literal["shared", "separate"]
EnvName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\Z",
        description="up to 128 letters, digits and _, and no digit first",
    ),
]
_RESERVED = frozenset(Session.__struct_fields__)
ADDRESS = re.compile(r"\{([a-z][a-z0-9_]{0,31})\.(host|port)\}")
"""In an environment value: another stage's address, such as ``{stream.host}``."""
_FIELDS = ("host", "port")
_LIKE_ADDRESS = re.compile(r"\{\s*(\w+)\s*\.\s*(\w*)[^{}]*\}?")
"""What may have been meant as such an address; another program's ``{record.level}`` looks the same."""
_WITH_DIGEST = re.compile(r"[^@]+@sha256:[0-9a-f]{64}\Z")
_OURS = re.compile(r"^OPERATORD_|_(ip|port)$")
_MIB = 1024**2
_LEAST_LIMIT = 6 * _MIB

Cores = Annotated[float, Meta(gt=0, le=1024)]
# The Docker Engine takes hundredths of a core; the kernel wants no less than 1 ms in each 100 ms.
CoreLimit = Annotated[float, Meta(ge=0.01, le=1024)]


class Stage(StageOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One container of a pipeline: what it runs, what it reserves, and what it can never exceed; and what its
    image needs besides.

    Admission counts with reservations, so reserve what the stage really needs. A limit is for a stage that
    goes wrong.
    """

    image: Annotated[str, Meta(min_length=1, max_length=512)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    command: list[str] = msgspec.field(default_factory=list)
    env: dict[EnvName, str | int | float | bool] = msgspec.field(default_factory=dict)
    allow_env: list[EnvName] = msgspec.field(default_factory=list)
    cpus: Cores = 0.1
    """Cores reserved: what it is sure to get when the machine is busy."""
    cpu_limit: CoreLimit | None = None
    """Cores that it never exceeds; None: whatever is idle."""
    memory: Bytes = Bytes(256 * _MIB)
    """Bytes reserved."""
    memory_limit: Bytes | None = None
    """Bytes at which it is killed; None: what is reserved."""
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    """Whole devices, which no other session has meanwhile."""
    gpu_memory: Bytes = Bytes(0)
    """Bytes that each of these devices has at least."""
    pids: Annotated[int, Meta(ge=1, le=32768)] = 128
    late_bind: Literal["off", "native", "shim"] = "off"
    """How it can wait for a request: by itself, through a shell that becomes its command, or not at all."""
    serves: Literal["stream", "openigtlink"] = "stream"
    """What it says at its port: the stream format, or, as the last stage, OpenIGTLink."""

    @property
    def most_memory(self) -> int:
        """Bytes at which it is killed."""
        return self.memory if self.memory_limit is None else self.memory_limit


WarmCount = Annotated[int, Meta(ge=0, le=1000)]


class Warm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many slots wait for a request: as many as arrive while one is made, within these bounds."""

    min: WarmCount = 0
    max: WarmCount = 1


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stages in the order of the stream: each connects to the one before it."""

    network: Literal["auto", "shared", "separate"] = "auto"
    """How many network namespaces a session has; see `namespaces`."""
    warm: WarmCount | Warm = 0
    """Slots that wait for a request."""
    reservations: Literal["declared", "learned"] = "declared"
    """learned: the larger of what is declared and what earlier sessions were seen to use."""
    stages: dict[StageName, Stage]

    @property
    def namespaces(self) -> Namespaces:
        """Whether stages share one network namespace, which starts faster but needs different ports, or have
        one each."""
        if self.network != "auto":
            return self.network
        return "shared" if self.can_share else "separate"

    @property
    def can_share(self) -> bool:
        """Whether every stage has a port of its own, and none has names or name servers of its own."""
        stages = self.stages.values()
        ports = len({stage.port for stage in stages}) == len(stages)
        return ports and not any(stage.needs_own_network for stage in stages)

    @property
    def reaches_out(self) -> bool:
        """Whether the network of its sessions has a way out: one of its stages needs it."""
        return any(stage.reaches_out for stage in self.stages.values())

    @property
    def warm_bounds(self) -> tuple[int, int]:
        """The fewest and the most slots."""
        return (
            (self.warm, self.warm) if isinstance(self.warm, int) else (self.warm.min, self.warm.max)
        )

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
    found += _warm_problems(where, pipeline)
    if pipeline.network == "shared" and not pipeline.can_share:
        found.append(
            f"{where}: with network: shared every stage needs a port of its own, and none may have "
            "extra_hosts or dns"
        )
    for stage_name, stage in pipeline.stages.items():
        place = f"{where}.stages.{stage_name}"
        found += stage_problems(place, stage_name, stage)
        found += _address_problems(place, stage, pipeline.stages)
        if stage.serves != "stream" and stage_name != pipeline.location_stage:
            found.append(
                f"{place}.serves: the stage after it reads the stream format, so only the last stage "
                f"({pipeline.location_stage!r}) may serve {stage.serves}"
            )
    return found


def warnings(name: str, pipeline: Pipeline, *, local: bool = False) -> list[str]:
    """Return a sentence for each thing in ``pipeline`` that its writer may not have meant.

    ``local``: its stages are processes of this machine, and not containers.
    """
    found = []
    for stage_name, stage in pipeline.stages.items():
        where = f"pipelines.{name}.stages.{stage_name}"
        if 0 < stage.memory < _MIB:
            found.append(
                f"{where}.memory: reserves {stage.memory} bytes, next to nothing; a number without a unit is "
                "bytes, so write 32MiB for 32 MiB"
            )
        if local:
            found += process_warnings(where, stage)
            continue
        found += option_warnings(where, stage)
        found += egress_warnings(where, stage, reaches_out=pipeline.reaches_out)
    return found


def _warm_problems(where: str, pipeline: Pipeline) -> list[str]:
    low, high = pipeline.warm_bounds
    found = []
    if low > high:
        found.append(f"{where}.warm: min ({low}) is more than max ({high})")
    if not high:
        return found
    for name, stage in pipeline.stages.items():
        if stage.late_bind == "off":
            found.append(f"{where}.warm: the stage {name!r} has late_bind: off and cannot wait")
        if stage.gpus:
            found.append(
                f"{where}.warm: the stage {name!r} has gpus, which no slot may keep from others"
            )
    return found


def stage_problems(where: str, name: str, stage: Stage) -> list[str]:
    """Return a sentence for each thing in a stage, called ``name``, that contradicts itself."""
    found = []
    if re.search(r"\s", stage.image):
        found.append(
            f"{where}.image: no image has white space in its name, and {stage.image!r} has"
        )
    if "@" in stage.image and not _WITH_DIGEST.match(stage.image):
        found.append(
            f"{where}.image: after the @ comes sha256: and 64 digits and letters a to f, as in "
            "`docker images --digests`"
        )
    if stage.is_pulled and stage.image.startswith("sha256:"):
        found.append(f"{where}.pull: no registry knows an image by its id; write its name")
    if name in _RESERVED:
        found.append(f"{where}: {name!r} is a member of every session; give the stage another name")
    for key in stage.allow_env:
        if _OURS.search(key):
            found.append(f"{where}.allow_env: {key} is set by the daemon and cannot be allowed")
    return [
        *found,
        *_size_problems(where, stage),
        *option_problems(where, stage, stage.most_memory),
    ]


def _size_problems(where: str, stage: Stage) -> list[str]:
    found = []
    if stage.cpu_limit is not None and stage.cpu_limit < stage.cpus:
        found.append(
            f"{where}.cpu_limit: {stage.cpu_limit:g} cores are fewer than cpus reserves ({stage.cpus:g})"
        )
    if stage.most_memory < _LEAST_LIMIT:
        limit = "memory" if stage.memory_limit is None else "memory_limit"
        found.append(f"{where}.{limit}: an engine wants at least 6MiB")
    elif stage.most_memory < stage.memory:
        found.append(
            f"{where}.memory_limit: {stage.most_memory} bytes are fewer than memory reserves "
            f"({stage.memory})"
        )
    if stage.gpu_memory and not stage.gpus:
        found.append(f"{where}.gpu_memory: says what each of gpus needs, and gpus is 0")
    return found


def _address_problems(where: str, stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    found = [
        f"{where}.env.{key}: {problem}"
        for key, value in stage.env.items()
        for match in _LIKE_ADDRESS.finditer(env_text(value))
        if (problem := _address_problem(match, stages))
    ]
    return found + [
        f"{where}.command[{place}]: {match[0]} is filled in in env only; a shell has it as ${match[1]}_"
        f"{'ip' if match[2] == 'host' else 'port'}"
        for place, word in enumerate(stage.command)
        for match in ADDRESS.finditer(word)
        if match[1] in stages
    ]


def _address_problem(match: re.Match[str], stages: Mapping[str, Stage]) -> str | None:
    """Return what is wrong with what looks like an address; None where it is one, or another's."""
    stage, field = match[1], match[2]
    if stage not in stages:
        if not ADDRESS.fullmatch(match[0]) and (
            field not in _FIELDS or stage.lower() not in stages
        ):
            return None
        return f"there is no stage {stage!r}{suggestion(stage, stages)}"
    if field not in _FIELDS:
        return f"a stage has host and port, and no {field!r}{suggestion(field, _FIELDS)}"
    if not ADDRESS.fullmatch(match[0]):
        return f"the address of a stage is written {{{stage}.{field}}}, without anything else in the braces"
    return None


def env_text(value: str | int | float | bool) -> str:
    """Return an environment value as stages read it; booleans as the original wrote them."""
    return str(value)


def shipped() -> dict[str, Pipeline]:
    """Return the two pipelines that every installation has: the plain and the segmented stream.

    Measured with 30 frames of 256×256 a second, in thousandths of a core and MiB: probe 11 and 15,
    stream 8 and 10, segmentation 48 and 12 (Engine 20.10 on an AMD EPYC).
    """
    frame_settings = ["fps", "width", "height", "seed"]
    probe = Stage(
        image="demo-probe", port=12345, env={"fps": 30}, allow_env=frame_settings,
        cpus=0.01, cpu_limit=0.5, memory=Bytes(32 * _MIB), memory_limit=Bytes(96 * _MIB), pids=32,
        late_bind="native",
    )  # fmt: skip
    plain = Stage(
        image="demo-stream", port=12346, env={"plain_stream": True}, allow_env=["policy", "chroma"],
        cpus=0.01, cpu_limit=0.5, memory=Bytes(32 * _MIB), memory_limit=Bytes(96 * _MIB), pids=64,
        late_bind="native",
    )  # fmt: skip
    inner = msgspec.structs.replace(plain, env={"plain_stream": False})
    segmentation = Stage(
        image="demo-segmentation", port=12347, allow_env=["policy", "chroma"],
        cpus=0.04, cpu_limit=1.0, memory=Bytes(32 * _MIB), memory_limit=Bytes(128 * _MIB), pids=32,
        late_bind="native",
    )  # fmt: skip
    return {
        "stream": Pipeline(network="shared", stages={"probe": probe, "stream": plain}),
        "segmented": Pipeline(
            network="shared",
            stages={"probe": probe, "stream": inner, "segmentation": segmentation},
        ),
    }
