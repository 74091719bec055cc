# SPDX-License-Identifier: MIT
"""What a container is given beyond what every stage gets: plain data, for `base.StagePlan`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Mount(msgspec.Struct, frozen=True):
    """A volume of the engine's, or a path of its machine, in the container's file system."""

    source: str
    """An absolute path, or the name of a volume, which is made if there is none."""
    target: str
    """An absolute path in the container."""
    writable: bool = False

    @property
    def is_path(self) -> bool:
        """Whether it is a path of the engine's machine; the engine refuses one that is not there."""
        return self.source.startswith("/")


class Device(msgspec.Struct, frozen=True):
    """A device file of the engine's machine."""

    source: str
    target: str
    permissions: str = "rw"
    """Which of ``r``, ``w`` and ``m`` (to make it anew) the container may do."""


class Ulimit(msgspec.Struct, frozen=True):
    """A limit of the kernel's on each process; -1 is no limit."""

    soft: int
    hard: int


class Options(msgspec.Struct, frozen=True):
    """Everything here is off unless an operator of the machine has asked for it."""

    mounts: tuple[Mount, ...] = ()
    tmpfs: Mapping[str, str] = {}
    """Mount options of file systems in memory, by their absolute paths in the container."""
    shm_size: int | None = None
    """Bytes of /dev/shm; None: the engine's 64 MiB."""
    devices: tuple[Device, ...] = ()
    group_add: tuple[str, ...] = ()
    user: str | None = None
    """Name or number, and maybe a group's after a colon; None: the image's, or nobody in place of root."""
    read_only: bool = True
    """Whether the image's files cannot be written to."""
    cap_add: tuple[str, ...] = ()
    """Without ``CAP_``."""
    ulimits: Mapping[str, Ulimit] = {}
    extra_hosts: tuple[tuple[str, str], ...] = ()
    """Names and their addresses; only for a stage that joins no other."""
    dns: tuple[str, ...] = ()
    """Addresses of name servers; only for a stage that joins no other."""
    health_checked: bool = True
    """Whether the health check of the image, if it has one, is run."""
    stop_signal: str | None = None
    init: bool = True
    """Whether a reaper is process 1, where the engine has one."""
    runtime: str | None = None
    """The program that runs the container; None: the engine's choice."""
    platform: str | None = None
    """Such as ``linux/arm64``; None: the engine's own."""

    @property
    def only_in_containers(self) -> list[str]:
        """What a program would miss if it did not run in a container of its own, by the settings' names."""
        asked = {
            # A file that is to be where it is anyway is there for a process, too.
            "volumes or secrets": [each for each in self.mounts if each.source != each.target],
            "user": self.user,
            "extra_hosts": self.extra_hosts,
            "dns": self.dns,
        }
        return [name for name, value in asked.items() if value]
