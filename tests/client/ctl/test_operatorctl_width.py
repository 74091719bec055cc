# SPDX-License-Identifier: MIT
"""How operatorctl's tables and details fit into a terminal, and stay whole for everybody else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from client_stub import Run, StubDaemon, golden

RUNNING = {
    "session_id": "EE705B6538693C50",
    "pipeline": "segmented",
    "phase": "running",
    "owner": "local",
    "location": {"host": "127.0.0.1", "port": 1, "url": "tcp://127.0.0.1:34081", "format": "json"},
    "created": "2024-05-17T09:30:00.120Z",
}
WAITING = {
    "session_id": "EE705B00000000AA",
    "pipeline": "segmented",
    "phase": "queued",
    "position": 1,
    "estimate": 99.4,
    "owner": "the-laboratory-on-the-second-floor",
    "created": "2024-05-17T09:30:01.120Z",
}
FAILED = {
    **RUNNING,
    "owner": WAITING["owner"],
    "phase": "ended",
    "outcome": "failed",
    "cause": "exit",
}
Terminal = Callable[[int], None]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, ctl: Run) -> Terminal:
    def has(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return has


def listed(daemon: StubDaemon, *sessions: dict[str, Any]) -> None:
    daemon.on("session.list", {"result": {"sessions": list(sessions)}})


def test_an_ordinary_session_has_its_whole_location_in_80_columns(
    daemon: StubDaemon, ctl: Run, terminal: Terminal
) -> None:
    listed(daemon, RUNNING)
    terminal(80)
    assert ctl("list", "--all").out.splitlines() == [
        "SESSION           PIPELINE   PHASE    CREATED UTC  OWNER  LOCATION",
        "EE705B6538693C50  segmented  running  05-17 09:30  local  tcp://127.0.0.1:34081",
    ]


def test_the_least_useful_columns_are_shortened_first(
    daemon: StubDaemon, ctl: Run, terminal: Terminal
) -> None:
    listed(daemon, RUNNING, WAITING, FAILED)
    terminal(101)
    assert ctl("list", "--all").out.splitlines() == [
        "SESSION           PIPELINE   PHASE           OUTCOME        CREATED UTC  OWNER  LOCATION",
        "EE705B6538693C50  segmented  running         -              05-17 09:30  local  "
        "tcp://127.0.0.1:34081",
        "EE705B00000000AA  segmented  queued (posit…  -              05-17 09:30  the-…  -",
        "EE705B6538693C50  segmented  ended           failed (exit)  05-17 09:30  the-…  "
        "tcp://127.0.0.1:34081",
    ]


@pytest.mark.parametrize("columns", [10, 16, 20, 40, 60, 72, 79, 80, 81, 100, 120, 140])
def test_a_table_is_no_wider_than_the_terminal_and_ids_stay_whole(
    daemon: StubDaemon, ctl: Run, terminal: Terminal, columns: int
) -> None:
    listed(daemon, RUNNING, WAITING, FAILED)
    terminal(columns)
    heading, *rows = ctl("list", "--all").out.splitlines()
    ids = [each["session_id"] for each in (RUNNING, WAITING, FAILED)]
    assert [row.split()[0] for row in rows] == ids
    assert max(map(len, (heading, *rows))) <= max(columns, 16)


def test_an_empty_list_fits(daemon: StubDaemon, ctl: Run, terminal: Terminal) -> None:
    listed(daemon)
    terminal(40)
    assert ctl("list", "--all").out == "SESSION  OUTCOME  CREATED UTC  LOCATION\n"


def test_scripts_get_all_of_it(
    daemon: StubDaemon, ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # a shell may export it
    listed(daemon, RUNNING, WAITING)
    ran = ctl("list", "--all")
    assert WAITING["owner"] in ran.out
    assert "2024-05-17 09:30:01" in ran.out
    daemon.on("system.status", golden("rpc: status"))
    assert "\nhost         cpus 8, memory 15.6 GiB\n" in ctl("status").out


def test_json_is_untouched_on_a_terminal(daemon: StubDaemon, ctl: Run, terminal: Terminal) -> None:
    listed(daemon, RUNNING, WAITING)
    terminal(40)
    assert json.loads(ctl("list", "--all", "-o", "json").out)["sessions"] == [RUNNING, WAITING]


@pytest.mark.parametrize("columns", [1, 40, 60, 80, 120])
def test_a_status_is_broken_into_lines_and_loses_nothing(
    daemon: StubDaemon, ctl: Run, terminal: Terminal, columns: int
) -> None:
    daemon.on("system.status", golden("rpc: status"))
    whole = ctl("status").out.split()
    terminal(columns)
    lines = ctl("status").out.splitlines()
    assert " ".join(lines).split() == whole
    assert max(map(len, lines)) <= max(columns, 34)
