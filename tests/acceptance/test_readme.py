# SPDX-License-Identifier: MIT
"""The README's commands, run in order: what it shows is what happens.

A block fenced as ``console`` is run line by line where lines begin with ``$ ``; other lines are output
and not compared. A block below ``<!-- not run: reason -->`` is left out. Port 7733 stands for that of a
daemon that the test has started.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, run, served

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(
    r"(?P<left_out><!-- not run: .+? -->\n+)?^```console\n(?P<body>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
SILENT = re.compile(
    r"^(export|cd|cp|mkdir|rm|sleep|kill|true|make clean)\b|>\s*\S+$|check-config -q|=\$\("
)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of all blocks that are to be run, continued lines joined."""
    for block in BLOCK.finditer(text):
        if block["left_out"]:
            continue
        lines = iter(block["body"].splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line.removeprefix("$ ")
                while command.endswith("\\"):
                    command = command.removesuffix("\\") + "\n" + next(lines).removeprefix("> ")
                yield command


def test_blocks_are_found_as_the_convention_says() -> None:
    text = """
```console
$ one
output
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
    assert list(commands(text)) == ["one", "two \n  more"]


@pytest.mark.skipif(not README.exists(), reason="there is no README.md yet")
async def test_commands_of_the_readme_do_what_it_says(tmp_path: Path, subnets: str) -> None:
    shown = list(commands(README.read_text("utf-8")))
    assert shown, "the README shows nothing that can be tried"
    engine = "docker" if os.environ.get("DOCKER_HOST") else "process"
    config = {"subnets": subnets, "limits": {"sessions": 3}}
    given = {key: os.environ[key] for key in ("DOCKER_HOST",) if key in os.environ}
    async with served(tmp_path / "s", "--engine", engine, config=config, env=given) as daemon:
        env = {
            **os.environ,
            "PATH": f"{Path(OPERATORD).parent}:{os.environ['PATH']}",
            "OPERATORD_ADDRESS": f"127.0.0.1:{daemon.address[1]}",
            "HOME": str(tmp_path),
        }
        for command in shown:
            here = command.replace("7733", str(daemon.address[1]))
            code, out, err = await run("bash", "-euc", here, env=env, cwd=ROOT)
            assert code == 0, f"{command}: {err}"
            assert out.strip() or SILENT.search(command), f"{command}: said nothing"
