# SPDX-License-Identifier: MIT
"""Adapters: the stages that read what a URL names and serve it as a probe does."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from operatord.core.pipelines import Stage, WarmCount, stage_problems
from operatord.core.stage_options import egress_warnings, option_warnings, process_warnings
from operatord.core.units import Bytes

from .url import LOCAL, TCP

URL = "source_url"
"""The variable in which an adapter is told what to read."""
SHOWN = "source_shown"
"""The variable in which it is told what people are shown of that."""
PORT = 12345
_MIB = 1024**2

Scheme = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9+.-]{0,31}\Z",
        description="the scheme of a URL in small letters, such as rtsp",
    ),
]


class Adapter(Stage, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stage that takes the place of ``probe`` in a session on a probe with such a URL."""

    port: Annotated[int, Meta(ge=1, le=65535)] = PORT
    warm: WarmCount = 0
    """Slots with this adapter, for each pipeline that keeps slots."""

    @property
    def stage(self) -> Stage:
        """The stage, as a plan has it."""
        members: dict[str, Any] = {name: getattr(self, name) for name in Stage.__struct_fields__}
        return Stage(**members)


def shipped_adapters() -> dict[str, Adapter]:
    """Return the adapters that every installation has, by scheme."""
    camera = Adapter(
        image="operatord-camera",
        allow_env=["pixel_format", "crop", "width", "height", "fps", "live", "loop"],
        cpus=0.25, cpu_limit=2.0, memory=Bytes(128 * _MIB), memory_limit=Bytes(512 * _MIB), pids=64,
        late_bind="native", egress="lan",
    )  # fmt: skip
    scanner = msgspec.structs.replace(
        camera, image="operatord-openigtlink-in", allow_env=[], cpu_limit=1.0
    )
    file = msgspec.structs.replace(camera, egress="none")
    device = msgspec.structs.replace(file, group_add=[44])
    network = dict.fromkeys(("rtsp", "rtsps", "http", "https"), camera)
    return {**network, "file": file, "v4l2": device, "igtl": scanner}


def adapter_problems(scheme: str, adapter: Adapter) -> list[str]:
    """Return a sentence for each thing in an adapter's settings that contradicts itself."""
    where = f"sources.{scheme}"
    if scheme == TCP:
        return [f"{where}: {TCP} is the stream format itself, which needs no adapter; leave it out"]
    found = stage_problems(where, "probe", adapter)
    for name in (URL, SHOWN):
        if name in adapter.env:
            found.append(f"{where}.env.{name}: is what a session is told, and cannot be set")
        if name in adapter.allow_env:
            found.append(f"{where}.allow_env: {name} is set by the daemon and cannot be allowed")
    if adapter.serves != "stream":
        found.append(f"{where}.serves: an adapter serves the stream format; leave it out")
    return [*found, *_warm_problems(where, scheme, adapter)]


def _warm_problems(where: str, scheme: str, adapter: Adapter) -> list[str]:
    if not adapter.warm:
        return []
    found = []
    if scheme in LOCAL:
        found.append(
            f"{where}.warm: a slot is made before it is known what its adapter is to read here"
        )
    if adapter.late_bind == "off":
        found.append(f"{where}.warm: the adapter has late_bind: off and cannot wait")
    if adapter.gpus:
        found.append(f"{where}.warm: the adapter has gpus, which no slot may keep from others")
    return found


def adapter_warnings(scheme: str, adapter: Adapter, *, local: bool = False) -> list[str]:
    """Return a sentence for each thing that its writer may not have meant; ``local`` as for pipelines."""
    where = f"sources.{scheme}"
    found = process_warnings(where, adapter)
    if not local:
        found = option_warnings(where, adapter)
        found += egress_warnings(where, adapter, reaches_out=adapter.reaches_out)
    if adapter.late_bind == "off":
        found.append(
            f"{where}.late_bind: off: whoever may inspect the container sees the URL with its credentials"
        )
    return found
