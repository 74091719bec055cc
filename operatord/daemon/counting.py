# SPDX-License-Identifier: MIT
"""The engine's machine as admission counts with it: cores, memory, devices, subnets."""

from __future__ import annotations

import logging
from pathlib import Path

from operatord.core.scheduling.room import Gpu
from operatord.engines import base
from operatord.lifecycle.supervisor import Supervisor
from operatord.machine.gpus import find_gpus
from operatord.machine.host import HostMonitor
from operatord.provision.subnet_count import SubnetCount
from operatord.settings.config import Config

log = logging.getLogger(__name__)


class Devices:
    """The graphics cards that stages may be given: those of the settings, or those that are found."""

    def __init__(self, config: Config, *, here: bool) -> None:
        """``here``: the engine is on this machine, where they can be looked for."""
        self._here = here
        self._found = _configured_gpus(config)
        """None until they were looked for."""

    @property
    def known(self) -> tuple[Gpu, ...]:
        """Those that are known by now."""
        return self._found or ()

    async def look(self) -> None:
        """Look for them, unless the settings name them."""
        if self._found is None:
            self._found = tuple(await find_gpus() if self._here else [])


class EngineMachine:
    """Counts anew what the engine's machine has, whenever the engine is there again."""

    def __init__(
        self,
        supervisor: Supervisor,
        subnets: SubnetCount,
        host: HostMonitor,
        devices: Devices,
        *,
        here: bool,
    ) -> None:
        """``here``: it is this machine, which can be measured."""
        self.shows_files = here
        """Whether files of the engine's machine are seen here: not from within a container beside it."""
        self._supervisor = supervisor
        self._subnets = subnets
        self._host = host
        self._devices = devices
        self._here = here

    async def count(self, info: base.EngineInfo) -> None:
        """Count with the engine's machine. Raises `base.EngineError`."""
        await self._subnets.ask()
        if info.root_dir and self._here:
            self._host.watch_disk(root := Path(info.root_dir))
            self.shows_files = _exists(root)
        self._subnets.tell()
        machine = self._supervisor.admission.machine
        self._supervisor.resize(
            machine._replace(cpus=info.cpus, memory=info.memory, gpus=self._devices.known)
        )
        for name, problem in self._supervisor.admission.too_large().items():
            log.warning("pipeline %s cannot run here: %s", name, problem)


def _exists(path: Path) -> bool:
    return path.exists()


def _configured_gpus(config: Config) -> tuple[Gpu, ...] | None:
    """Return the devices that the settings name; None when they are to be looked for."""
    if config.gpus == "auto":
        return None
    return tuple(Gpu(int(gpu.memory), gpu.id) for gpu in config.gpus)
