# SPDX-License-Identifier: MIT
"""What tests have measured is printed at the end, by however many processes they are run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MEASURING = """
def test_that_measures(report): report.append("three of three")
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_what_was_measured_is_printed_at_the_end(tmp_path: Path, options: tuple[str, ...]) -> None:
    if options:
        pytest.importorskip("xdist")
    for name in ("one", "other"):
        (tmp_path / f"test_{name}.py").write_text(MEASURING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "summary", *options, tmp_path],
        cwd=tmp_path, env={"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines().count("three of three") == 2
