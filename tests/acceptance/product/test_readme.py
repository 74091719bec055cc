# SPDX-License-Identifier: MIT
"""The README's commands, run in order: what it shows is what happens.

A block fenced as ``console`` is run line by line where lines begin with ``$ ``; the lines below are what the
command prints, and are compared but for ids, times, ports and the like (`readme_blocks`). A block below
``<!-- not run: reason -->`` is left out. Port 7733 stands for that of a daemon that the test has started.

``README=write make test ARGS=tests/acceptance/product/test_readme.py`` writes what is printed now into it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Served, run, served
from readme_blocks import Shown, alike, alike_but_for_stages, shown

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
WRITE = os.environ.get("README") == "write"


def test_blocks_are_found_as_the_convention_says() -> None:
    text = """
```console
$ one
output
of two lines
$ two \\
>   more
```
<!-- not run: it takes an hour -->
```console
$ three
```
```python
$ four
```
"""
    found = list(shown(text))
    assert [(each.command, each.output) for each in found] == [
        ("one", "output\nof two lines\n"),
        ("two \\\n  more", ""),
    ]
    assert [text[each.start : each.end] for each in found] == [each.output for each in found]


def test_what_is_compared_is_what_does_not_vary() -> None:
    """S13: an error is not alike to an answer, nor one error to another; a port is like any other."""
    started = '{"session_id":"E6647DC6D3DBCD22","location":{"port":34081},"timings":{"total":4.1}}'
    later = '{"session_id":"F1D638C15FCAD1AC","location":{"port":41},"timings":{"images":0.3}}\n'
    assert alike(started) == alike(later)
    refused = '{"error":{"code":5,"message":"3 of 3 sessions live","data":{"retry_after":100}}}'
    assert alike(refused) == alike(refused.replace("100", "98.5"))
    assert len({alike(started), alike(refused), alike(refused.replace("3 of 3", "2 of 2"))}) == 3
    rows = "  probe         110.7  ------------\n  connect       152.8  ----\n"
    assert alike(f"start 1.0\n{rows}") == alike("start  9.9  ##\n  connect  0.1\n  probe  2.0\n")
    assert alike("exit code 1") != alike("exit code 2")
    table = "verify  2.7\ntotal  352.8\n\ncold: no warm slot was ready for it\n"
    slow = (
        "verify  2.7\nbetween steps  9.1  ##\ntotal  361.9\n\ncold: most of it was spent waiting\n"
    )
    assert alike(table) == alike(slow)
    assert alike(table) != alike(slow.replace("cold", "warm"))
    assert alike("s running (unread for 1m 18s) -") == alike("s running -")
    late, early = f"start 1.0\n{rows}", "start 1.0\n  stream 0.4\n"
    assert alike(late) != alike(early)
    assert alike_but_for_stages(late) == alike_but_for_stages(early) == alike("start 1.0")


async def printed(each: Shown, daemon: Served, home: Path) -> str:
    """Run a command of the README; return what it prints."""
    env = {
        **os.environ,
        "PATH": f"{Path(OPERATORD).parent}:{os.environ['PATH']}",
        "OPERATORD_ADDRESS": f"127.0.0.1:{daemon.address[1]}",
        # Who sweeps, sweeps for the daemon of this test.
        "OPERATORD_STATE_DIR": str(daemon.state_dir),
        "OPERATORD_CONFIG": str(daemon.state_dir.with_suffix(".yaml")),
        "HOME": str(home),
    }
    here = each.command.replace("7733", str(daemon.address[1]))
    code, out, err = await run("bash", "-euc", here, env=env, cwd=ROOT)
    assert code == 0, f"{each.command}: {err}"
    return out


@pytest.mark.engine
async def test_commands_of_the_readme_print_what_it_says(
    tmp_path: Path, subnets: str, nc: str
) -> None:
    """S13: ids, times, ports, durations and versions apart; N6: with what goes to standard error."""
    readme = README.read_text("utf-8")
    expected = list(shown(readme))
    assert expected, "the README shows nothing that can be tried"
    config = {"subnets": subnets, "limits": {"sessions": 3}}
    env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
    async with served(tmp_path / "s", "--engine", "docker", config=config, env=env) as daemon:
        asked = Shown("operatorctl status -o json", "", 0, 0)
        engine = json.loads(await printed(asked, daemon, tmp_path))["engine"]
        found = [await printed(each, daemon, tmp_path) for each in expected]
    if WRITE:
        for each, out in reversed(list(zip(expected, found, strict=True))):
            readme = readme[: each.start] + out + readme[each.end :]
        README.write_text(readme, "utf-8")
        return
    # The README shows an engine that connects stages late; where that cannot be, other steps are taken.
    compared = alike if engine["capabilities"]["connects_late"] else alike_but_for_stages
    for each, out in zip(expected, found, strict=True):
        assert compared(out) == compared(each.output), each.command
