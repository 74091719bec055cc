# SPDX-License-Identifier: MIT
"""Reserved cores become shares of which every runtime makes weights in proportion."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.engines.docker.values.cpu_weight import (
    Conversion,
    conversion,
    cpu_shares,
    cpu_weight,
)
from operatord.engines.docker.values.runtime import oci_runtime

Formula = Literal["linear", "quadratic"]
FORMULAS: tuple[Formula, ...] = ("linear", "quadratic")


# The first three and the last two are those of TestConvertCPUSharesToCgroupV2Value, in utils_test.go of
# github.com/opencontainers/cgroups and of runc before it; 10 and 40 were seen in a kernel.
@pytest.mark.parametrize(
    ("shares", "linear", "quadratic"),
    [
        (2, 1, 1), (3, 1, 2), (1024, 39, 100), (10, 1, 4), (20, 1, 6), (40, 2, 9), (102, 4, 17),
        (262_143, 9999, 10_000), (262_144, 10_000, 10_000),
    ],
)  # fmt: skip
def test_formulas_are_those_of_the_runtimes(shares: int, linear: int, quadratic: int) -> None:
    """E6"""
    assert (cpu_weight(shares, "linear"), cpu_weight(shares, "quadratic")) == (linear, quadratic)


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_weight_there_is_can_be_asked_for(formula: Formula) -> None:
    """E6: a hundred for each core, and each hundredth of a core one more."""
    for weight in range(1, 10_001):
        assert cpu_weight(cpu_shares(weight / 100, formula), formula) == weight


@given(st.floats(0.01, 100), st.sampled_from(FORMULAS))
def test_weight_is_in_proportion_to_the_cores(cpus: float, formula: Formula) -> None:
    """E6: as exactly as whole weights allow, whatever the runtime."""
    weight = cpu_weight(cpu_shares(cpus, formula), formula)
    assert abs(weight - cpus * 100) <= 0.5


@given(st.floats(0, 10_000, allow_subnormal=False), st.sampled_from(["none", *FORMULAS]))
def test_shares_are_those_that_kernels_take(cpus: float, converted: Conversion) -> None:
    assert 2 <= cpu_shares(cpus, converted) <= 262_144


@pytest.mark.parametrize(
    ("cpus", "shares"),
    [(1.0, 1024), (0.5, 512), (0.1, 102), (0.01, 10), (0.001, 2), (64, 65536), (1024, 262144)],
)
def test_shares_are_1024_for_a_core_where_nothing_is_done_to_them(cpus: float, shares: int) -> None:
    """E6: cgroup v1."""
    assert cpu_shares(cpus, "none") == shares


@pytest.mark.parametrize(
    ("runtime", "formula"),
    [
        ("runc 1.1.5+ds1", "linear"),
        ("runc 1.2.9", "linear"),
        ("runc 1.3.1", "linear"),
        ("runc 1.3.2", "quadratic"),
        ("runc 1.3.6+ds1", "quadratic"),
        ("runc 1.4.0-rc.1", "quadratic"),
        ("runc 1.10.0", "quadratic"),
        ("nvidia-container-runtime 1.1.12", "linear"),
        ("crun 1.22", "linear"),
        ("crun 1.23", "quadratic"),
        ("crun 1.23.1", "quadratic"),
        ("crun 1.8.1", "linear"),
        ("youki 0.5.6", "linear"),
        ("youki 0.5.7", "quadratic"),
        ("runsc release-20260803.0", "linear"),
        # Only engines that are older than any runtime with the new formula do not tell the version.
        ("crun", "linear"),
        ("runc UNKNOWN", "linear"),
        ("kata-runtime 3.2.0", "quadratic"),
        ("", "quadratic"),
    ],
)
def test_formula_follows_from_the_runtime_and_its_version(runtime: str, formula: Formula) -> None:
    """E6"""
    assert conversion("2", runtime) == formula
    assert conversion("1", runtime) == "none"
    assert conversion("", runtime) == "none", "who does not say knows version 1 only"


CRUN = "crun version 1.21\ncommit: 10269840\nspec: 1.0.0"
DOCKER = [{"Name": "Engine", "Version": "28.5.2"}, {"Name": "containerd", "Version": "2.1.9"}]


@pytest.mark.parametrize(
    ("components", "info", "runtime"),
    [
        (
            [*DOCKER, {"Name": "runc", "Version": "1.1.5+ds1"}],
            {"DefaultRuntime": "runc", "Runtimes": {"runc": {"path": "runc"}}},
            "runc 1.1.5+ds1",
        ),
        (
            [*DOCKER, {"Name": "quick", "Version": "1.21"}],
            {"DefaultRuntime": "quick", "Runtimes": {"quick": {"path": "/usr/bin/crun"}}},
            "crun 1.21",
        ),
        (  # Docker before 24 reads the version of no runtime but runc
            [*DOCKER, {"Name": "crun", "Version": ""}],
            {"DefaultRuntime": "crun", "Runtimes": {"crun": {"path": "crun"}}},
            "crun",
        ),
        (  # a runtime that is a shim of containerd has no path
            [*DOCKER],
            {"DefaultRuntime": "kata", "Runtimes": {"kata": {"runtimeType": "io.kata"}}},
            "kata",
        ),
        (
            [{"Name": "Podman Engine"}, {"Name": "OCI Runtime (crun)", "Version": CRUN}],
            {"DefaultRuntime": "crun", "Runtimes": {"crun": {"path": "/usr/bin/crun"}}},
            "crun 1.21",
        ),
        (
            [{"Name": "OCI Runtime (runc)", "Version": "runc version 1.3.6+ds1\ncommit: 1"}],
            {},
            "runc 1.3.6+ds1",
        ),
        ([], {"DefaultRuntime": "crun"}, "crun"),
        (None, {}, ""),
        ([{}], {"Runtimes": None}, ""),
    ],
)
def test_runtime_is_read_from_what_the_engine_says(
    components: Any, info: dict[str, Any], runtime: str
) -> None:
    """E6"""
    assert oci_runtime({"Components": components}, info) == runtime
