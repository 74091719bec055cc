# SPDX-License-Identifier: MIT
"""A plugin of the tests: lines that are printed when all of them are done, whatever pytest captures.

Where several processes run the tests (``pytest -n``), each hands its lines to the one that prints.
"""

from __future__ import annotations

from typing import Any

import pytest

LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the end; append to them."""
    return request.config.stash[LINES]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["report"] = session.config.stash[LINES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of pytest-xdist hands over; one that crashed has nothing to say."""
    node.config.stash[LINES] += getattr(node, "workeroutput", {}).get("report", [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash[LINES]:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)
