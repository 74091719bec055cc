# SPDX-License-Identifier: MIT
"""Facts about this machine, for `system.status`."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil


class HostMonitor:
    """Reads the machine's state when asked; keeps only what a rate needs."""

    def __init__(self, disk: Path) -> None:
        """Watch the file system that ``disk`` is on."""
        self._disk = disk
        self._process = psutil.Process()
        psutil.cpu_percent(None)  # the first call has nothing to compare with
        self._process.cpu_percent(None)

    def facts(self) -> dict[str, Any]:
        """Return what does not change while the machine runs."""
        return {
            "hostname": platform.node(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "memory": psutil.virtual_memory().total,
            "boot_time": psutil.boot_time(),
        }

    def measured(self) -> dict[str, Any]:
        """Return the use of processor, memory, disk: percent since the last call, bytes, load."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._existing()))
        return {
            "cpu_percent": psutil.cpu_percent(None),
            "load": [round(value, 2) for value in psutil.getloadavg()],
            "memory_available": memory.available,
            "memory_percent": memory.percent,
            "disk_free": disk.free,
            "disk_percent": disk.percent,
            "daemon": {
                "rss": self._process.memory_info().rss,
                "cpu_percent": self._process.cpu_percent(None),
                "descriptors": self._process.num_fds(),
            },
        }

    def _existing(self) -> Path:
        return next(path for path in (self._disk, *self._disk.parents) if path.exists())


def routes() -> list[str]:
    """Return the IPv4 networks this host has routes to, as CIDRs, from ``/proc/net/route``."""
    try:
        lines = Path("/proc/net/route").read_text("ascii").splitlines()[1:]
    except OSError:
        return []
    return [_cidr(line.split()) for line in lines if len(line.split()) > 7]


def _cidr(fields: list[str]) -> str:
    """Columns are hexadecimal in host order: the second is the network, the eighth its mask."""
    address, mask = (int(fields[i], 16).to_bytes(4, "little") for i in (1, 7))
    bits = int.from_bytes(mask, "big").bit_count()
    return f"{'.'.join(map(str, address))}/{bits}"
