# SPDX-License-Identifier: MIT
"""This machine's size and load: for admission each second, for `system.status` when asked."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from operatord.core.scheduling.pressure import Sample, averaged

from .clock import Clock

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between looks."""
PRESSURE = Path("/proc/pressure")
_NO_LIMIT = 2**62
"""Bytes free on a file system that counts none, such as the ramfs of a live system."""
_UNREADABLE = (OSError, ValueError, LookupError, psutil.Error)
"""What reading /proc raises where it is missing, hidden or has an unexpected format."""


class _Ticks(NamedTuple):
    """Processor seconds since the machine or this process began."""

    busy: float
    all: float
    own: float


class HostMonitor:
    """Looks at the machine each second while `run` runs, and keeps what the last look gave.

    Inside a container the numbers are still the machine's, as they should be: sessions run beside
    the daemon, not within its limits.
    """

    def __init__(
        self, disk: Path, clock: Clock | None = None, *, pressure: Path = PRESSURE
    ) -> None:
        """Watch the file system that ``disk`` is on."""
        self._clock = clock or Clock()
        self._pressure = pressure
        self._process = psutil.Process()
        self._running = False
        self._failing = False
        self.watch_disk(disk)
        self.last: Sample | None = None
        """What the last look gave; None before there was one."""
        self._at = self._begun = self._clock.now()
        self._ticks = _ticks()
        self._cpu_busy = self._cpu_average = self._own_busy = 0.0

    @staticmethod
    @functools.cache
    def facts() -> dict[str, Any]:
        """Return what does not change while the machine runs; the same object each time."""
        return {
            "hostname": platform.node(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "memory": psutil.virtual_memory().total,
            "boot_time": psutil.boot_time(),
        }

    def measured(self) -> dict[str, Any]:
        """Return the use of processor, memory, disk: percent, bytes, load, PSI as 0…1.

        Processor time is that between the last two looks, whoever asks and however often. Its average is left
        out until there is one: it begins as if the machine had been idle before.
        """
        if not self._running and self._clock.now() - self._at >= INTERVAL:
            self.sample()
        memory, (path, disk) = psutil.virtual_memory(), self._file_system()
        return {
            "cpu_percent": round(self._cpu_busy * 100, 1),
            **self._average(),
            "load": [round(value, 2) for value in os.getloadavg()],
            "memory_available": memory.available,
            "memory_percent": memory.percent,
            "disk_path": str(path),
            "disk_free": disk.f_bavail * disk.f_frsize,
            "disk_percent": _percent_used(disk),
            **self._stalls(),
            "daemon": {
                "rss": self._process.memory_info().rss,
                "cpu_percent": round(self._own_busy * 100, 1),
                "descriptors": self._process.num_fds(),
            },
        }

    def sample(self) -> Sample:
        """Look at the machine. For one caller, which is `run`: processor time counts from look to look.

        Raises `OSError` and others of `_UNREADABLE`; then this look has not been.
        """
        now, ticks, available = self._clock.now(), _ticks(), psutil.virtual_memory().available
        _, disk = self._file_system()
        self._remember(now, ticks)
        self.last = Sample(
            cpu_busy=self._cpu_busy,
            memory_available=available,
            disk_free=disk.f_bavail * disk.f_frsize if disk.f_blocks else _NO_LIMIT,
            memory_stall=_stalls(self._pressure / "memory").get("full_avg10", 0.0),
        )
        return self.last

    def watch_disk(self, path: Path) -> None:
        """Watch the file system of ``path`` from now on, or of its nearest parent that can be seen."""
        path = path.absolute()
        self._candidates = (path, *path.parents)

    async def run(
        self, on_sample: Callable[[Sample, float], None], interval: float = INTERVAL
    ) -> None:
        """Look every ``interval`` seconds, at once for the first time; until cancelled.

        ``on_sample`` gets the sample and the seconds since the one before; at first, since this
        monitor was made. What it raises ends the loop.
        """
        before, self._running = self._at, True
        try:
            while True:
                if (sample := self._try_sample()) is not None:
                    before, seconds = self._at, self._at - before
                    on_sample(sample, seconds)
                await asyncio.sleep(interval)
        finally:
            self._running = False

    def _try_sample(self) -> Sample | None:
        """Return a sample, or None; of failures in a row, only the first is logged."""
        try:
            sample = self.sample()
        except _UNREADABLE as exc:
            if not self._failing:
                log.error("the machine cannot be measured: %s: %s", type(exc).__name__, exc)
            self._failing, self.last = True, None
            return None
        if self._failing:
            log.info("the machine can be measured again")
        self._failing = False
        return sample

    def _remember(self, now: float, ticks: _Ticks) -> None:
        """Turn counters into shares. The kernel counts in 10 ms: no tick since, no news."""
        seconds, counted = now - self._at, ticks.all - self._ticks.all
        if counted > 0:
            self._cpu_busy = min(max((ticks.busy - self._ticks.busy) / counted, 0.0), 1.0)
        if seconds > 0:
            self._own_busy = (ticks.own - self._ticks.own) / seconds
        self._cpu_average = averaged(self._cpu_average, self._cpu_busy, seconds)
        self._at, self._ticks = now, ticks

    def _average(self) -> dict[str, float]:
        is_measured = self._at - self._begun >= INTERVAL
        return {"cpu_average": round(self._cpu_average, 4)} if is_measured else {}

    def _file_system(self) -> tuple[Path, os.statvfs_result]:
        """Asked anew each time: an engine's directory may come later than the daemon, or go."""
        for path in self._candidates[:-1]:
            try:
                return path, os.statvfs(path)
            except OSError:
                continue
        return self._candidates[-1], os.statvfs(self._candidates[-1])

    def _stalls(self) -> dict[str, dict[str, float]]:
        found = {name: _stalls(self._pressure / name) for name in ("cpu", "memory", "io")}
        return {f"{name}_psi": values for name, values in found.items() if values}


def _ticks() -> _Ticks:
    """Read the processors' counters, from ``/proc/stat``.

    Busy is what is neither idle nor waiting for a disk. What a hypervisor took away (steal) counts as busy,
    since it was wanted. Guests are in user and nice already (proc(5)).
    """
    times = psutil.cpu_times()
    everything = sum(times) - times.guest - times.guest_nice
    return _Ticks(everything - times.idle - times.iowait, everything, time.process_time())


def _stalls(file: Path) -> dict[str, float]:
    """Read a PSI file's averages over ten seconds as 0…1; nothing where the kernel keeps none.

    The format is Documentation/accounting/psi.rst's: ``some avg10=1.61 avg60=0.64 … total=…`` in
    percent, and for ``full`` the same. A kernel started with ``psi=0`` fails the read.
    """
    try:
        lines = file.read_bytes().splitlines()
        return {f"{line[:4].decode()}_avg10": _fraction(line) for line in lines}
    except (OSError, ValueError, LookupError):
        return {}


def _fraction(line: bytes) -> float:
    return round(float(line.split(b" ", 2)[1].removeprefix(b"avg10=")) / 100, 6)


def _percent_used(disk: os.statvfs_result) -> float:
    """Return the percent in use of what unprivileged users can have, as ``df`` does."""
    used = disk.f_blocks - disk.f_bfree
    total = used + disk.f_bavail
    return round(used / total * 100, 1) if total else 0.0
