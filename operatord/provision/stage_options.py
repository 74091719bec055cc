# SPDX-License-Identifier: MIT
"""What the settings of a stage's container ask of an engine. No I/O."""

from __future__ import annotations

from msgspec import UNSET

from operatord.core import stage_forms as forms
from operatord.core.stage_options import SECRETS, SoftHard, StageOptions, capability
from operatord.engines.options import Device, Mount, Options, Ulimit
from operatord_protocol.absent import given


def engine_options(asked: StageOptions) -> Options:
    """Return them as engines take them, of settings that have been checked."""
    limits = given(asked.ulimits, {})
    files = [forms.memory_files(each) for each in given(asked.tmpfs, [])]
    shm = given(asked.shm_size)
    return Options(
        mounts=_mounts(asked),
        tmpfs={each.target: each.options for each in files},
        shm_size=None if shm is None else int(shm),
        devices=tuple(Device(*forms.device(each)) for each in given(asked.devices, [])),
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


def _ulimit(limit: int | SoftHard) -> Ulimit:
    return Ulimit(limit, limit) if isinstance(limit, int) else Ulimit(limit.soft, limit.hard)
