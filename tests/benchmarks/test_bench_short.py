# SPDX-License-Identifier: MIT
"""The benchmark works, from the command line to the file. How fast anything is, is no test's business."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run.py")


def named(section: str, parts: str) -> set[str]:
    return {f"{section}.{part}" for part in parts.split()}


WITHOUT_ENGINE = {
    "control": named(
        "control",
        "unpipelined latency batches saturated crowd fairness cost metrics"
        " tls-unpipelined tls-batches tls-saturated",
    ),
    "viewers": named("viewers", "gateway daemon frames ping"),
    "openigtlink": {"openigtlink", "openigtlink.cores"},
    "relay": {"relay"},
    "attacks": named("attacks", "ping work sigterm memory"),
    "frames": {"frames"},
    "scheduling": named(
        "scheduling",
        "submit release turn.8-owners turn.1000-owners turn.1-of-8-owners-floods"
        " turn.21-priorities utilisation jain simulation",
    ),
}
ON_AN_ENGINE = {
    "post": {"post", "post.ping"},
    "gate": {"gate", "gate.cpu", "gate.warm", "gate.warm.header"},
    "start": {"start", "start.header", "stop"},
    "warm": {"warm", "warm.header", "warm.row", "warm.row.header"},
    "burst": {"burst", *named("burst", "cpu ping stop")},
    "chain": {"chain", "chain.segmented"},
    "footprint": named("footprint", "memory cpu connection session"),
}
"""The tables of each section."""


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def measured(sections: Iterable[str], folder: Path) -> dict[str, Any]:
    """Measure sections in one go, and return the report, with what was printed."""
    file = folder / "bench.json"
    only = [word for section in sections for word in ("--only", section)]
    done = run("--short", *only, "--json", str(file))
    report = json.loads(file.read_text("utf-8"))
    return {**report, "code": done.returncode, "said": done.stdout + done.stderr}


def check(report: dict[str, Any], section: str, names: set[str]) -> None:
    assert report["machine"]["cores"]
    assert section not in report["skipped"], report["said"]
    tables = {table["name"]: table for table in report["tables"]}
    assert names <= tables.keys(), report["said"]
    for table in map(tables.get, names):
        assert table and table["reference"] in table["rows"]
        for row in table["rows"].values():
            assert row["n"] == len(row["samples"]) > 0
            assert all(value > 0 and math.isfinite(value) for value in row["samples"])


@pytest.fixture(scope="module")
def without_engine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(WITHOUT_ENGINE, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def on_an_engine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(ON_AN_ENGINE, tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("section", WITHOUT_ENGINE)
def test_a_section_is_measured(without_engine: dict[str, Any], section: str) -> None:
    check(without_engine, section, WITHOUT_ENGINE[section])


@pytest.mark.engine
@pytest.mark.parametrize("section", ON_AN_ENGINE)
def test_a_section_is_measured_on_an_engine(on_an_engine: dict[str, Any], section: str) -> None:
    check(on_an_engine, section, ON_AN_ENGINE[section])


def test_no_other_tables_are_made_and_all_went_well(without_engine: dict[str, Any]) -> None:
    assert without_engine["code"] == 0, without_engine["said"]
    made = {table["name"] for table in without_engine["tables"]}
    assert made == set().union(*WITHOUT_ENGINE.values())


@pytest.mark.engine
def test_what_is_asked_of_every_engine_is_measured(tmp_path: Path) -> None:
    check(measured(["engine"], tmp_path), "engine", {"warm", "warm.header"})


def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = run("--short", "--only", "start", "--json", str(file), env={"DOCKER_HOST": ""})
    assert done.returncode == 0
    assert "start: skipped, no container engine" in done.stdout
    assert "start" in json.loads(file.read_text("utf-8"))["skipped"]


def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(RUN),
        "--only",
        "control",
        "--json",
        str(tmp_path / "bench.json"),
    ]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        assert any(line.startswith("load") for line in bench.stdout)  # the last before it begins
        daemon = next_child(bench.pid)
        bench.send_signal(signal.SIGINT)
        assert bench.wait(60) == 130
    assert not Path(f"/proc/{daemon}").exists()
    assert not list(tmp_path.glob("operatord-bench-*"))


def next_child(pid: int) -> int:
    """Return the first child of a process, as soon as it has one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 30
    while not (found := children.read_text("ascii").split()):
        assert time.monotonic() < deadline, "it starts nothing"
    return int(found[0])
