# SPDX-License-Identifier: MIT
"""What a stage is given beyond what every stage gets, as the Docker Engine API wants it. No I/O.

Mounts are asked for as ``Mounts``: for the older ``Binds``, an engine makes a directory in place of a path
that is missing, as root, and the stage starts without what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operatord.engines.options import Mount, Options, Ulimit

Json = dict[str, Any]

SCRATCH = "/tmp"  # noqa: S108
"""Where every stage can write, in memory, unless something else is mounted there."""


def option_members(options: Options) -> Json:
    """Return the members of a create body that are not the host's business."""
    members: Json = {}
    if options.user is not None:
        members["User"] = options.user
    if not options.health_checked:
        members["Healthcheck"] = {"Test": ["NONE"]}
    if options.stop_signal is not None:
        members["StopSignal"] = options.stop_signal
    return members


def host_options(options: Options) -> Json:
    """Return the members of ``HostConfig``; what is not asked for is not there."""
    members: Json = {
        "Mounts": [_mount(each) for each in options.mounts],
        "ShmSize": options.shm_size,
        "Devices": [
            {
                "PathOnHost": each.source,
                "PathInContainer": each.target,
                "CgroupPermissions": each.permissions,
            }
            for each in options.devices
        ],
        "GroupAdd": list(options.group_add),
        "CapAdd": list(options.cap_add),
        "ExtraHosts": [f"{name}:{address}" for name, address in options.extra_hosts],
        "Dns": list(options.dns),
        "Runtime": options.runtime,
    }
    return {name: value for name, value in members.items() if value}


def tmpfs(options: Options, scratch: str) -> Json:
    """Return the file systems in memory; ``scratch``: how the one of all stages is mounted."""
    taken = {each.target for each in options.mounts}
    usual = {} if SCRATCH in taken else {SCRATCH: scratch}
    return usual | dict(options.tmpfs)


def ulimits(options: Options, usual: Mapping[str, Ulimit]) -> list[Json]:
    """Return limits on each process: the ``usual`` ones, and in their place those that are asked for."""
    return [
        {"Name": name, "Soft": limit.soft, "Hard": limit.hard}
        for name, limit in {**usual, **options.ulimits}.items()
    ]


def _mount(mount: Mount) -> Json:
    return {
        "Type": "bind" if mount.is_path else "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": not mount.writable,
    }
