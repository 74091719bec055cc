# SPDX-License-Identifier: MIT
"""operatord as `make install` leaves it, once for all tests that look at it or run it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import shared_host

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path("/usr/bin/python3")


def make(target: str, destdir: Path, **more: str) -> str:
    """Run a target of the Makefile; return what it says."""
    env = {**os.environ, "DESTDIR": str(destdir), **more}
    env = {key: value for key, value in env.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ("make", "-s", target), cwd=ROOT, env=env, check=False, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def _has_venv() -> bool:
    command = (PYTHON, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))")
    return PYTHON.exists() and subprocess.run(command, check=False).returncode == 0


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a DESTDIR in which it is installed; nobody changes it, for all processes of a run share it."""
    if not _has_venv():
        pytest.skip("the system's Python is older than 3.11, or has no venv")
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "service"
    whole = shared / "whole"
    with shared_host.alone("pip"):
        if not whole.exists():
            make("install", shared / "root")
            whole.touch()
    return shared / "root"


@pytest.fixture
def to_make() -> Callable[..., str]:
    return make
