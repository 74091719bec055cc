# SPDX-License-Identifier: MIT
"""Whether the machine is short of something, whatever the books say is free.

Reservations count what sessions may take; the machine also has other users. Each of processor, memory and
disk is under pressure or not, and that is a state with two borders: it is entered beyond the watermark and
left only well below it. Holding back starts keeps the value close to the watermark; with one border alone,
starts would be allowed and forbidden every second.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Kind = Literal["none", "cpu", "memory", "disk"]

CPU_SECONDS = 30.0
"""Time constant of the average: a machine that becomes fully busy shows 63 % after this long, 95 %
after three times as long. A session's start takes a second or two and must not look like pressure."""
NEWS = 0.1
"""A figure has to change by this part of itself before the reason is updated. Each new reason is sent to
everybody who waits, and free memory is never the same twice."""
_CPU_BAND = 0.07
"""How far below its watermark the average has to fall, unless half the watermark is nearer."""


class Sample(NamedTuple):
    """One look at the machine."""

    cpu_busy: float
    """0…1 of all cores, since the look before."""
    memory_available: int
    """Bytes that programs can have without swapping."""
    disk_free: int
    """Bytes, on the file system where the engine writes."""
    memory_stall: float
    """0…1: the part of the last ten seconds in which nothing ran, all of it waiting for memory (the
    kernel's PSI, memory, ``full avg10``). 0 where the kernel does not measure it."""


class Watermarks(NamedTuple):
    """Where pressure begins. None switches a measure off, and so does 0 bytes."""

    cpu: float | None
    """0…1 of all cores, averaged."""
    memory_stall: float | None
    """0…1, as in a sample."""
    memory: int
    """Bytes that must stay available."""
    disk: int
    """Bytes that must stay free."""


class Gauge:
    """What is known of the machine's state; changed only by `update`."""

    def __init__(self) -> None:
        """Begin as if the machine were idle."""
        self._average = 0.0
        self._cpu = False
        self._memory = False
        self._disk = False
        self._told: Sample | None = None
        """What the reason speaks of, with the average for ``cpu_busy``."""
        self._figure: tuple[str, float] = "", 0.0

    def update(self, sample: Sample, watermarks: Watermarks, seconds: float) -> Kind:
        """Take a sample in, ``seconds`` after the one before, and return what is the worst now.

        The watermarks may be others than the last time: old states are judged by the new borders.
        """
        self._average = averaged(self._average, sample.cpu_busy, seconds)
        self._cpu = _cpu_pressed(self._cpu, self._average, watermarks.cpu)
        self._memory = _memory_pressed(self._memory, sample, watermarks)
        self._disk = _held(
            self._disk,
            beyond=sample.disk_free < watermarks.disk,
            back=sample.disk_free >= _disk_clear(watermarks.disk),
        )
        self._note(sample._replace(cpu_busy=self._average), watermarks)
        return self.kind

    def _note(self, sample: Sample, watermarks: Watermarks) -> None:
        """Keep ``sample`` for the reason, if the reason would change."""
        name, now = _figure(self.kind, sample, watermarks)
        before, then = self._figure
        if name != before or abs(now - then) > NEWS * max(now, then):
            self._told, self._figure = sample, (name, now)

    @property
    def kind(self) -> Kind:
        """The worst: a full disk spoils what runs, short memory kills it, busy cores slow it."""
        if self._disk:
            return "disk"
        if self._memory:
            return "memory"
        return "cpu" if self._cpu else "none"

    def reason(self, watermarks: Watermarks) -> str:
        """Say for a person what is the matter and what starts wait for; nothing when all is well."""
        kind, sample = self.kind, self._told
        if sample is None or kind == "none":
            return ""
        if kind == "disk":
            return _disk_reason(sample, watermarks)
        if kind == "memory":
            return _memory_reason(sample, watermarks)
        return _cpu_reason(sample.cpu_busy, watermarks)


def averaged(average: float, value: float, seconds: float) -> float:
    """Return the moving average once ``value`` has held for ``seconds``.

    Exponentially weighted with the time constant `CPU_SECONDS`, as Linux does its load averages
    (kernel/sched/loadavg.c), but with the weight taken from the time that really went by: late
    and irregular samples count for as long as they stand for.
    """
    # Two products of what is never negative keep their order when rounded; a + w × (b − a) does not.
    keep = math.exp(-max(seconds, 0.0) / CPU_SECONDS)
    return keep * average + (1 - keep) * value


def _held(before: bool, *, beyond: bool, back: bool) -> bool:
    """Hysteresis: entered when ``beyond``, left when ``back``, kept in between."""
    return beyond or (before and not back)


def _cpu_pressed(before: bool, average: float, watermark: float | None) -> bool:
    if watermark is None:
        return False
    return _held(before, beyond=average > watermark, back=average < _cpu_clear(watermark))


def _memory_pressed(before: bool, sample: Sample, watermarks: Watermarks) -> bool:
    """Two measures, one state: it is entered for either and left for both.

    Available memory shows too late that a machine thrashes its page cache; stalls do not show that one is
    about to run out without stalling.
    """
    stall, limit = sample.memory_stall, watermarks.memory_stall
    return _held(
        before,
        beyond=sample.memory_available < watermarks.memory or (limit is not None and stall > limit),
        back=sample.memory_available >= _memory_clear(watermarks.memory)
        and (limit is None or stall <= _stall_clear(limit)),
    )


def _figure(kind: Kind, sample: Sample, watermarks: Watermarks) -> tuple[str, float]:
    """Return the figure that the reason for ``kind`` has, and its name."""
    if kind == "disk":
        return "disk_free", sample.disk_free
    if kind == "cpu":
        return "cpu_busy", sample.cpu_busy
    if kind == "none":
        return "", 0.0
    if _lacks_memory(sample, watermarks):
        return "memory_available", sample.memory_available
    return "memory_stall", sample.memory_stall


def _lacks_memory(sample: Sample, watermarks: Watermarks) -> bool:
    """Tell whether the reason is low memory; otherwise it is stalls."""
    wanted = _memory_clear(watermarks.memory)
    return watermarks.memory_stall is None or sample.memory_available < wanted


def _cpu_clear(watermark: float) -> float:
    """A low watermark, for trying this out, needs a border above zero to come back below."""
    return max(watermark - _CPU_BAND, watermark / 2)


def _stall_clear(watermark: float) -> float:
    """Half: the kernel's ten-second average needs seven quiet seconds to fall by that much."""
    return watermark / 2


def _memory_clear(watermark: int) -> int:
    """A quarter more, or the first start to be let in would bring the pressure back."""
    return watermark * 5 // 4


def _disk_clear(watermark: int) -> int:
    """A tenth more: watermarks of disks are large, and they fill and empty slowly."""
    return watermark * 11 // 10


def _cpu_reason(average: float, watermarks: Watermarks) -> str:
    said = f"all cores have been {_percent(average)} busy over the last half minute"
    if watermarks.cpu is None:  # switched off since the last update
        return said
    return f"{said}; starts wait until that is below {_percent(_cpu_clear(watermarks.cpu))} (pressure.cpu)"


def _memory_reason(sample: Sample, watermarks: Watermarks) -> str:
    wanted, limit = _memory_clear(watermarks.memory), watermarks.memory_stall
    if limit is None or _lacks_memory(sample, watermarks):
        return (
            f"the machine is short of memory: {_size(sample.memory_available)} are available and "
            f"{_size(watermarks.memory)} must stay free; starts wait until {_size(wanted)} are "
            "(system_reserved.memory)"
        )
    return (
        f"the machine is short of memory: for {_percent(sample.memory_stall)} of the last ten seconds "
        "everything that ran stood still waiting for it; "
        f"starts wait until that is no more than {_percent(_stall_clear(limit))} (pressure.memory_stall)"
    )


def _disk_reason(sample: Sample, watermarks: Watermarks) -> str:
    return (
        f"the engine's disk is nearly full: {_size(sample.disk_free)} are free and "
        f"{_size(watermarks.disk)} must stay free; starts wait until {_size(_disk_clear(watermarks.disk))} "
        "are (system_reserved.disk)"
    )


def _percent(share: float) -> str:
    return f"{round(share * 100, 0 if share >= 0.1 else 1):g} %"


def _size(count: int) -> str:
    """Cut, not rounded: what is a little less than a watermark must not read as if it were as much."""
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count * 10 // scale / 10:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} B"
