# SPDX-License-Identifier: MIT
"""A program that was started with some of its standard streams closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
from operatord_protocol.standard_streams import open_closed_ones

def standard():
    paths = [f"/proc/self/fd/{number}" for number in range(3)]
    return [os.readlink(path) if os.path.lexists(path) else None for path in paths]

before = standard(), len(os.listdir("/proc/self/fd"))
open_closed_ones()
after = standard(), len(os.listdir("/proc/self/fd"))
inherited = all(os.get_inheritable(number) for number in range(3))
Path(sys.argv[1]).write_text(json.dumps([before, after, inherited]))
"""


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_null_device_is_opened_as_each_that_is_closed(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    """F13: so that no socket gets its number; children have it, too, and nothing else is opened."""
    closing = "".join(f" {number}>&-" for number in closed)
    subprocess.run(
        ["sh", "-c", f'exec "$@"{closing}', "sh", sys.executable, "-c", PROGRAM, tmp_path / "said"],
        stdin=subprocess.PIPE,
        check=True,
    )
    (before, files), (after, files_after), inherited = json.loads((tmp_path / "said").read_text())
    assert [number for number in range(3) if before[number] is None] == list(closed)
    assert after == [os.devnull if each is None else each for each in before]
    assert (files_after - files, inherited) == (len(closed), True)
