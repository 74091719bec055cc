# SPDX-License-Identifier: MIT
"""What a README shows: commands, and what they print; compared without what is different every time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = re.compile(
    r"(?P<left_out><!-- not run: .+? -->\n+)?^```console\n(?P<body>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
VARIES = [
    (re.compile(pattern, re.MULTILINE), name)
    for pattern, name in (
        (r"\b[0-9A-F]{16}\b", "SESSION"),
        (r"\bnetwork_[0-9A-F]{5}\b", "NETWORK"),
        (r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b", "CONTAINER"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+Z)?", "TIME"),
        (r'(127\.0\.0\.1:|"port":)\d+', r"\1PORT"),
        (r"\b(?:10|198)(?:\.\d+){3}\b", "ADDRESS"),
        # What a start waits for is said when it takes its time.
        (r"^SESSION  (?:images|turn|network|create|start|verify)\n", ""),
        # What a busy host's steps wait for one another is a row of its own, and what took longest is said.
        (r"^between steps +[\d.]+.*\n", ""),
        (r"^(cold|warm): .+$", r"\1: WHY"),
        # How long it took, how long it will take, and how quick that was.
        (r'("timings":\{)[^}]*', r"\1"),
        (r"^(timings +).*", r"\1DURATIONS"),
        (r"^( *[a-z][a-z., ]*?) +\d+\.\d( +[#-]+)?$", r"\1 DURATION"),
        (r'("(?:estimate|retry_after)":)[\d.]+', r"\1DURATION"),
        (r" \(unread for [\dhms ]+\)", ""),
        (r"\bin about [\dhms. ]*[hms]\b", "in about DURATION"),
        (r"^(time +)[\d.]+ s, [\d.]+ frames/s", r"\1DURATION, RATE"),
        (r"^( +(?:wall|processor) time) .*", r"\1 DURATIONS"),
        (r"^( +decisions per second) .*", r"\1 RATES"),
        (r"^( +peak memory of this process) .*", r"\1 BYTES"),
        # Columns are as wide as what is in them.
        (r"[ \t]+", " "),
        (r" +$", ""),
    )
]
SIDE_BY_SIDE = re.compile(r"(?:^ \w+ DURATION\n){2,}", re.MULTILINE)


@dataclass
class Shown:
    """A command of a README, with what it is said to print."""

    command: str
    output: str
    start: int
    """Where in the README the output begins, …"""
    end: int
    """… and ends."""


def shown(readme: str) -> Iterator[Shown]:
    """Yield the commands of all blocks that are to be run, continued lines joined."""
    for block in BLOCK.finditer(readme):
        if not block["left_out"]:
            yield from _commands(block["body"], block.start("body"))


def _commands(body: str, place: int) -> Iterator[Shown]:
    found: Shown | None = None
    for line in body.splitlines(keepends=True):
        place += len(line)
        if line.startswith("$ "):
            if found is not None:
                yield found
            found = Shown(line.removeprefix("$ ").removesuffix("\n"), "", place, place)
        elif found is not None and found.command.endswith("\\"):
            found.command += "\n" + line.removeprefix("> ").removesuffix("\n")
            found.start = found.end = place
        elif found is not None:
            found.output += line
            found.end = place
    if found is not None:
        yield found


def alike(printed: str) -> str:
    """Return what is the same whenever and wherever it is printed."""
    for pattern, name in VARIES:
        printed = pattern.sub(name, printed)
    # Stages that are started side by side are there in the order in which they were ready.
    return SIDE_BY_SIDE.sub(lambda rows: "".join(sorted(rows[0].splitlines(True))), printed).strip()


def alike_but_for_stages(printed: str) -> str:
    """Return the same without the rows of single stages in a table of steps."""
    return re.sub(r"^ \w+ DURATION\n?", "", alike(printed) + "\n", flags=re.MULTILINE).strip()
