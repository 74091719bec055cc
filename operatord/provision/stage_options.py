# SPDX-License-Identifier: MIT
"""What the settings of a stage's container ask of an engine. No I/O."""

from __future__ import annotations

from msgspec import UNSET

from operatord.core import stage_forms as forms
from operatord.core.plans import Source
from operatord.core.stage_options import SECRETS, SoftHard, StageOptions, capability, targets
from operatord.engines.options import Device, Mount, Options, Ulimit
from operatord_protocol.absent import given


def engine_options(asked: StageOptions, source: Source | None = None) -> Options:
    """Return them as engines take them, of settings that have been checked; with what ``source`` needs."""
    limits = given(asked.ulimits, {})
    files = [forms.memory_files(each) for each in given(asked.tmpfs, [])]
    shm = given(asked.shm_size)
    return Options(
        mounts=(*_mounts(asked), *_mount_of(asked, source)),
        tmpfs={each.target: each.options for each in files},
        shm_size=None if shm is None else int(shm),
        devices=(*_devices(asked), *_device_of(asked, source)),
        group_add=tuple(map(forms.account, given(asked.group_add, []))),
        user=None if asked.user is UNSET else forms.user(asked.user),
        read_only=given(asked.read_only, default=True),
        cap_add=tuple(map(capability, given(asked.cap_add, []))),
        ulimits={name: _ulimit(limit) for name, limit in limits.items()},
        extra_hosts=tuple(map(forms.extra_host, given(asked.extra_hosts, []))),
        dns=tuple(map(forms.address, given(asked.dns, []))),
        health_checked=asked.runs_health_check,
        stop_signal=given(asked.stop_signal),
        init=given(asked.init, default=True),
        runtime=given(asked.runtime),
        platform=given(asked.platform),
    )


def _mounts(asked: StageOptions) -> tuple[Mount, ...]:
    volumes = [Mount(*forms.volume(each)) for each in given(asked.volumes, [])]
    secrets = given(asked.secrets, {}).items()
    return (*volumes, *(Mount(path, f"{SECRETS}/{name}") for name, path in secrets))


def _mount_of(asked: StageOptions, source: Source | None) -> tuple[Mount, ...]:
    """Return the folder in which a source is, unless the settings have it in the container already."""
    if source is None or source.needs is None or source.scheme != "file":
        return ()
    there = any(f"{source.needs}/".startswith(f"{each}/") for each in targets(asked))
    return () if there else (Mount(source.needs, source.needs),)


def _devices(asked: StageOptions) -> tuple[Device, ...]:
    return tuple(Device(*forms.device(each)) for each in given(asked.devices, []))


def _device_of(asked: StageOptions, source: Source | None) -> tuple[Device, ...]:
    if source is None or source.needs is None or source.scheme != "v4l2":
        return ()
    there = any(each.target == source.needs for each in _devices(asked))
    return () if there else (Device(source.needs, source.needs),)


def _ulimit(limit: int | SoftHard) -> Ulimit:
    return Ulimit(limit, limit) if isinstance(limit, int) else Ulimit(limit.soft, limit.hard)
