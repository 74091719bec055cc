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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run.py")


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for table in report["tables"]:
        assert table["reference"] in table["rows"]
        yield from table["rows"].values()


def check(section: str, file: Path, names: set[str]) -> None:
    done = run("--short", "--only", section, "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text("utf-8"))
    assert report["machine"]["cores"] and not report["skipped"]
    assert {table["name"] for table in report["tables"]} == names
    for row in rows(report):
        assert row["n"] == len(row["samples"]) > 0
        assert all(value > 0 and math.isfinite(value) for value in row["samples"])


def test_control_plane(tmp_path: Path) -> None:
    parts = (
        "unpipelined",
        "latency",
        "batches",
        "saturated",
        "crowd",
        "fairness",
        "cost",
        "metrics",
    )
    parts += ("tls-unpipelined", "tls-batches", "tls-saturated")
    check("control", tmp_path / "bench.json", {f"control.{part}" for part in parts})


@pytest.mark.engine
def test_post(tmp_path: Path) -> None:
    check("post", tmp_path / "bench.json", {"post", "post.ping"})


def test_viewers(tmp_path: Path) -> None:
    parts = ("gateway", "daemon", "frames", "ping")
    check("viewers", tmp_path / "bench.json", {f"viewers.{part}" for part in parts})


def test_openigtlink(tmp_path: Path) -> None:
    check("openigtlink", tmp_path / "bench.json", {"openigtlink", "openigtlink.cores"})


def test_relay(tmp_path: Path) -> None:
    check("relay", tmp_path / "bench.json", {"relay"})


@pytest.mark.engine
def test_gate(tmp_path: Path) -> None:
    names = {"gate", "gate.cpu", "gate.warm", "gate.warm.header"}
    check("gate", tmp_path / "bench.json", names)


def test_attacks(tmp_path: Path) -> None:
    parts = ("ping", "work", "sigterm", "memory")
    check("attacks", tmp_path / "bench.json", {f"attacks.{part}" for part in parts})


def test_frames(tmp_path: Path) -> None:
    check("frames", tmp_path / "bench.json", {"frames"})


def test_scheduling(tmp_path: Path) -> None:
    parts = (
        "submit", "release", "turn.8-owners", "turn.1000-owners", "turn.1-of-8-owners-floods",
        "turn.21-priorities", "utilisation", "jain", "simulation",
    )  # fmt: skip
    check("scheduling", tmp_path / "bench.json", {f"scheduling.{part}" for part in parts})


@pytest.mark.engine
def test_starts_and_stops(tmp_path: Path) -> None:
    check("start", tmp_path / "bench.json", {"start", "start.header", "stop"})


@pytest.mark.engine
def test_warm_starts(tmp_path: Path) -> None:
    names = {"warm", "warm.header", "warm.row", "warm.row.header"}
    check("warm", tmp_path / "bench.json", names)
    check("engine", tmp_path / "bench.json", {"warm", "warm.header"})


@pytest.mark.engine
def test_bursts(tmp_path: Path) -> None:
    check("burst", tmp_path / "bench.json", {"burst", "burst.cpu", "burst.ping", "burst.stop"})


@pytest.mark.engine
def test_chains(tmp_path: Path) -> None:
    check("chain", tmp_path / "bench.json", {"chain", "chain.segmented"})


@pytest.mark.engine
def test_footprint(tmp_path: Path) -> None:
    parts = ("memory", "cpu", "connection", "session")
    check("footprint", tmp_path / "bench.json", {f"footprint.{part}" for part in parts})


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
