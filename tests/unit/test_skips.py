# SPDX-License-Identifier: MIT
"""Under CI a skipped test is a failure, whoever skips it and however."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SKIPPED = """
import pytest

def test_by_call(): pytest.skip("no-such is not installed")
def test_by_import(): pytest.importorskip("no_such_module")
@pytest.mark.skipif(True, reason="there is no such command")
def test_by_mark(): pass
@pytest.fixture
def wanting(): pytest.skip("there is no such tool")
def test_by_fixture(wanting): pass
@pytest.mark.engine
def test_by_want_of_an_engine(): pass
"""
WHOLE = """
import pytest

pytest.importorskip("no_such_module")
def test_in_it(): pass
"""
NO_LOSS = """
import pytest

def test_elsewhere(): pytest.skip("this kernel keeps no PSI")
@pytest.mark.xfail
def test_expected(): assert False
def test_that_runs(): pass
"""


def outcome(folder: Path, program: str, ci: str) -> str:
    """Run tests as all others are run; return pytest's last line."""
    (folder / "test_some.py").write_text(program)
    env = {k: v for k, v in os.environ.items() if k not in ("DOCKER_HOST", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-o", "markers=engine: x", folder],
        cwd=folder, env={**env, "CI": ci, "PYTHONPATH": str(TESTS)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].partition(" in ")[0]


@pytest.mark.parametrize(("ci", "said"), [("true", "2 failed, 3 errors"), ("", "5 skipped")])
def test_what_is_skipped_fails_under_ci(tmp_path: Path, ci: str, said: str) -> None:
    """S19: programs, modules and engines that are missing."""
    assert outcome(tmp_path, SKIPPED, ci) == said


@pytest.mark.parametrize(("ci", "said"), [("true", "1 error"), ("", "1 skipped")])
def test_file_that_is_skipped_whole_fails_under_ci(tmp_path: Path, ci: str, said: str) -> None:
    """S19: no test of it begins, so that none of them can be said to have been skipped."""
    assert outcome(tmp_path, WHOLE, ci) == said


def test_what_no_installation_would_change_may_be_skipped(tmp_path: Path) -> None:
    """S19: a kernel, a processor; and what is expected to fail is no skip."""
    assert outcome(tmp_path, NO_LOSS, "true") == "1 passed, 1 skipped, 1 xfailed"
