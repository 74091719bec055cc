# SPDX-License-Identifier: MIT
"""For all tests: which ones an engine is needed for, and that none leaves anything behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import orphans
import preloaded
import pytest
import shared_host
from daemon_lab import Lab, Wire, in_process
from hypothesis import HealthCheck, settings

# Property tests are judged by what they find, never by how fast a busy machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Where no bytecode is written, as in many images, each daemon that a test starts compiles all of operatord.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["summary"]

CI = os.environ.get("CI") == "true"
NO_LOSS = (
    "the process engine takes no subnets",
    "this kernel keeps no PSI",
    "the daemon asks for nothing on this processor",
    "the engine has no socket that could be stood in for",
    "takes its time: FAULTS=all runs it",
    "there is no such player to be had here",
    "there is no browser to be had here",
)
"""Why a test may be skipped under CI: nothing that could be installed would change it."""

LONGEST = (
    "benchmarks/test_bench_short.py", "service/test_systemd.py", "service/test_install.py",
    "service/test_compose.py", "acceptance/product/test_wheel.py", "acceptance/product/test_readme.py",
)  # fmt: skip
"""Files that take minutes beside others. One that is begun last is waited for, and a core does nothing."""

ORPHANS = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach what tests start, also when they run in the background of a shell.

    There it is ignored, and whoever is started inherits that, but not a handler. What is left because a
    process of pytest was killed ends all the same.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[ORPHANS] = orphans.begin()
    preloaded.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what is still left, which is nothing unless tests were interrupted."""
    preloaded.end()
    config.stash[ORPHANS].communicate()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector look at none of what is loaded here, which stays: ten thousand tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; a process takes a whole file, and the next one in their order."""
    turns = {Path(__file__).parent / name: turn for turn, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an engine where there is none."""
    if item.get_closest_marker("engine") is None or os.environ.get("DOCKER_HOST"):
        return
    why = os.environ.get("OPERATORD_NO_ENGINE_REASON", "DOCKER_HOST is not set (tools/engine up)")
    pytest.skip(f"no container engine: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI, let a test fail that is skipped, whoever skips it: a green run has run everything."""
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that is skipped whole, of which no test is heard of."""
    report = yield
    fail_if_skipped(report)
    return report


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if CI and report.skipped and isinstance(report.longrepr, tuple):
        why = report.longrepr[2].removeprefix("Skipped: ")
        if why not in NO_LOSS:
            report.outcome, report.longrepr = "failed", f"skipped under CI=true: {why}"


def need(program: str) -> str:
    """Return the path of a program; without it the test is skipped, which fails under CI."""
    return shutil.which(program) or pytest.skip(f"{program} is not installed")


@pytest.fixture
def subnets() -> Iterator[str]:
    """Addresses for networks of the engine that no other test has."""
    with shared_host.block() as block:
        yield str(block)


@pytest.fixture
def nc() -> str:
    return need("nc")


@pytest.fixture
def ffmpeg() -> str:
    return need("ffmpeg")


def _children() -> set[str]:
    """Return the ids of this process's children, the dead that nobody waited for among them."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended since
            found.update(file.read_text().split())
    return found - preloaded.processes()


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip() or "a dead one"
    except OSError:
        return "a dead one"


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a task or a child process behind."""
    before = _children()
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_task_is_left")
    yield
    if left := _children() - before:
        pytest.fail(f"left behind: {', '.join(f'{pid} ({_name(pid)})' for pid in left)}")


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
    before = asyncio.all_tasks()
    yield
    for _ in range(20):  # rounds for what has been cancelled to notice
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0)
    else:
        pytest.fail(f"tasks left behind: {left}")
    assert complaints == [], "an exception that nobody looked at"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A daemon in this process, on the fake engine."""
    async with in_process(tmp_path / "state") as running:
        yield running


@pytest.fixture
async def wire(lab: Lab) -> Wire:
    """A connection to it."""
    return await lab.wire()


@pytest.fixture
def engine_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that the engine finds at the same path. One that has a root of its own (`tools/roots`) sees of
    this machine only where its socket is.
    """
    home = Path(os.environ["DOCKER_HOST"].removeprefix("unix://")).parent
    if not home.is_relative_to("/run") or not home.parent.name.startswith("operatord-roots-"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="test-", dir=home) as made:
        Path(made).chmod(0o755)
        yield Path(made)
