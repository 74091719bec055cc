# SPDX-License-Identifier: MIT
"""For the tests that let something die: where their helpers are, and what they print at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "acceptance"))  # docker_lab

REPORTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORTS] = []


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are printed when all tests are done, whatever pytest captures."""
    return request.config.stash[REPORTS]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash.get(REPORTS, []):
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
