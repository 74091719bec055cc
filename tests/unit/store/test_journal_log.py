# SPDX-License-Identifier: MIT
"""The log, where standard error leads to systemd's journal."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOG = """
import logging, os, sys
from operatord import logs
from operatord.settings.config import Logging

found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino + int(sys.argv[1])}"
logs.configure(Logging(level="debug", format=sys.argv[2]))
log = logging.getLogger("operatord.x")
log.debug("a")
log.info("b")
log.warning("c")
log.error("d")
try:
    1 / 0
except ZeroDivisionError:
    log.critical("e", exc_info=True)
"""


def logged(elsewhere: int, kind: str) -> list[str]:
    command = (sys.executable, "-c", LOG, str(elsewhere), kind)
    done = subprocess.run(command, check=True, text=True, stderr=subprocess.PIPE)
    return done.stderr.splitlines()


def test_each_line_has_its_priority() -> None:
    lines = logged(0, "auto")
    assert lines[:5] == ["<7>a", "<6>b", "<4>c", "<3>d", "<2>e"]
    assert len(lines) > 6
    assert all(line.startswith("<2>") for line in lines[5:])


@pytest.mark.parametrize(("elsewhere", "kind"), [(1, "auto"), (0, "text"), (0, "json")])
def test_none_has_one_elsewhere(elsewhere: int, kind: str) -> None:
    assert not [line for line in logged(elsewhere, kind) if line.startswith("<")]
