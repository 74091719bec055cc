# SPDX-License-Identifier: MIT
"""The CPU shares to ask an engine for, so that processor time is divided in proportion to reserved cores.

On cgroup v1, the kernel divides by shares: 2 to 262144. On cgroup v2 the container runtime converts them to
a weight of 1 to 10000, and there are two formulas. Neither keeps the proportion of 1024 shares for a core:

    cores    shares   linear   quadratic
    1.0        1024       39         100
    0.1         102        4          17
    0.02         20        1           6

So the weight is chosen, 100 for a core, and the runtime's formula inverted. No I/O.

Sources of the formulas:

- linear: ``ConvertCPUSharesToCgroupV2Value`` in libcontainer/cgroups/utils.go of runc up to 1.3.1,
  ``convert_shares_to_weight`` in src/libcrun of crun up to 1.22, runsc/cgroup/cgroup_v2.go of gVisor in 2026.
- quadratic: utils.go of github.com/opencontainers/cgroups from 0.0.3, which runc has from 1.3.2 on (its
  CHANGELOG.md); src/libcrun/cgroup-internal.h of crun from 1.23 (its NEWS); crates/libcgroups/src/v2/cpu.rs
  of youki from 0.5.7.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

Conversion = Literal["none", "linear", "quadratic"]
"""How shares are converted before they reach the kernel; not at all on cgroup v1."""

_SHARES_PER_CORE = 1024
"""As Kubernetes has it: MilliCPUToShares in kubernetes/pkg/kubelet/cm/helpers_linux.go."""
_SHARES_MIN, _SHARES_MAX = 2, 262_144
_WEIGHT_PER_CORE = 100
"""The kernel's default weight; on cgroup v1 that is 1024 shares."""
_WEIGHT_MIN, _WEIGHT_MAX = 1, 10_000
_QUADRATIC_FROM: Mapping[str, tuple[int, ...] | None] = {
    "runc": (1, 3, 2),
    "crun": (1, 23),
    "youki": (0, 5, 7),
    "runsc": None,
    "nvidia-container-runtime": (1, 3, 2),  # it runs runc, and tells runc's version
}
"""The first version of each runtime with the quadratic formula; None: not one so far."""


def conversion(cgroup_version: str, runtime: str) -> Conversion:
    """Return how an engine converts shares, judging by its `EngineInfo`.

    An unknown runtime is treated as new, since all runtimes move to the quadratic formula. A known one
    without a version is treated as old, since only old engines do not report it.
    """
    if cgroup_version != "2":
        return "none"
    name, _, version = runtime.partition(" ")
    if name not in _QUADRATIC_FROM:
        return "quadratic"
    since = _QUADRATIC_FROM[name]
    return "linear" if since is None or _numbers(version) < since else "quadratic"


def cpu_shares(cpus: float, converted: Conversion) -> int:
    """Return the shares to ask for, 2 to 262144, for a number of cores and a conversion.

    On cgroup v2, reservations are told apart in steps of 0.01 core, from 0.01 to 100 cores.
    """
    if converted == "none":
        return min(max(int(cpus * _SHARES_PER_CORE), _SHARES_MIN), _SHARES_MAX)
    weight = min(max(round(cpus * _WEIGHT_PER_CORE), _WEIGHT_MIN), _WEIGHT_MAX)
    # Both formulas round up to the next weight. The middle between two does not depend on how exactly.
    shares = _UNROUNDED[converted](weight - 0.5)
    return min(max(round(shares), _SHARES_MIN), _SHARES_MAX)


def cpu_weight(shares: int, converted: Literal["linear", "quadratic"]) -> int:
    """Return the weight that a runtime makes of 2 to 262144 shares."""
    if converted == "linear":
        return 1 + (shares - 2) * 9999 // 262_142
    if shares <= _SHARES_MIN:
        return _WEIGHT_MIN
    if shares >= _SHARES_MAX:
        return _WEIGHT_MAX
    doublings = math.log2(shares)
    return math.ceil(10 ** ((doublings**2 + 125 * doublings) / 612 - 7 / 34))


def _linear(weight: float) -> float:
    """Return the shares that become the weight, before it is rounded."""
    return 2 + weight * 262_142 / 9999


def _quadratic(weight: float) -> float:
    """Return the shares that become the weight, before it is rounded."""
    doublings = (math.sqrt(125**2 + 4 * 612 * (math.log10(weight) + 7 / 34)) - 125) / 2
    return float(2**doublings)


_UNROUNDED = {"linear": _linear, "quadratic": _quadratic}


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of ``1.3.6+ds1`` or ``1.23``; empty if there are none."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
