# SPDX-License-Identifier: MIT
"""How long functions and classes are, how full folders are, what is there twice, and how classes are called.

What is longer than most stands in a table of ARCHITECTURE.md with the reason. That table is the list of
exceptions, so it can neither lack one nor keep one that is gone.
"""

from __future__ import annotations

import ast
import functools
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PRODUCT = ("operatord", "protocol", "client", "stage", "emulators", "adapters")
YUV = ROOT / "protocol" / "operatord_protocol" / "pictures" / "yuv.py"
"""The protocol's copy of a module of `operatord_stage`."""
FOLDERS = (*PRODUCT, "tests", "examples", "docs", "packaging", "tools")

MEDIAN, NINE_IN_TEN = 7, 16
LONGEST_FUNCTION, LONGEST_CLASS = 40, 250
FILES = 16
ALIKE = 6
"""Lines in a row that two files may not have in common."""
NAMED_OTHERWISE = {
    "BackgroundWriter": "what `sys.stderr` becomes",
    "LineSplitter": "framing is what it does",
}
"""Classes that are most of a file of another name, and why."""


class Measured(NamedTuple):
    """A function or class, and its lines from ``def`` or ``class`` to the last one, docstring included."""

    name: str
    file: Path
    lines: int
    is_class: bool


def sources(*folders: str) -> list[Path]:
    """Return the sources, without copies that are made by `make emulators`."""
    copies = {
        *(ROOT / "emulators").glob("*/operatord_stage/*.py"),
        *(ROOT / "adapters" / "openigtlink-out" / "igtl").glob("*.py"),
        YUV,
    }
    found = [file for each in folders for file in sorted((ROOT / each).rglob("*.py"))]
    return [file for file in found if file not in copies]


def measured(*folders: str) -> Iterator[Measured]:
    for file in sources(*folders):
        yield from _measured(file)


@functools.cache
def _measured(file: Path) -> tuple[Measured, ...]:
    return tuple(_within(file, ast.parse(file.read_text("utf-8")), ""))


def _within(file: Path, node: ast.AST, prefix: str) -> Iterator[Measured]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{prefix}{child.name}."
            lines = (child.end_lineno or 0) - child.lineno + 1
            yield Measured(inner[:-1], file, lines, isinstance(child, ast.ClassDef))
        yield from _within(file, child, inner)


def excepted() -> dict[str, int]:
    """Return what the table of ARCHITECTURE.md names, and the lines that it says."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("## What is longer than most")[2].partition("\n## ")[0]
    return {name: int(lines) for name, lines in re.findall(r"^\| `(\S+)` \| (\d+) \|", table, re.M)}


def test_functions_are_short() -> None:
    for folders in (PRODUCT, ("tests",)):
        lines = sorted(each.lines for each in measured(*folders) if not each.is_class)
        assert statistics.median(lines) <= MEDIAN, folders
        assert lines[len(lines) * 9 // 10] <= NINE_IN_TEN, folders


def test_the_figures_of_the_architecture_are_those_measured() -> None:
    lines = sorted(each.lines for each in measured(*PRODUCT) if not each.is_class)
    median, ninth = round(statistics.median(lines)), lines[len(lines) * 9 // 10]
    said = f"Half of the functions have at most {median} lines, nine in ten at most {ninth};"
    assert said in (ROOT / "ARCHITECTURE.md").read_text("utf-8")


def test_what_is_longer_than_most_is_in_the_table_and_nothing_else() -> None:
    found = {}
    for each in measured(*PRODUCT, "tests"):
        if each.lines > (LONGEST_CLASS if each.is_class else LONGEST_FUNCTION):
            folder = each.file.relative_to(ROOT).parts[0]
            name = ".".join(
                (*each.file.relative_to(ROOT / folder).with_suffix("").parts, each.name)
            )
            found[name] = each.lines
    said = excepted()
    assert sorted(said) == sorted(found)
    for name, lines in found.items():
        assert abs(said[name] - lines) <= lines / 10, f"{name} has {lines} lines by now"


def test_no_folder_is_full() -> None:
    folders = {file.parent for each in FOLDERS for file in (ROOT / each).rglob("*")}
    for folder in folders:
        if "__pycache__" not in folder.parts:
            files = [
                f
                for f in folder.iterdir()
                if f.is_file() and f.name not in ("py.typed", "README.md")
            ]
            assert len(files) <= FILES, f"{folder.relative_to(ROOT)} has {len(files)} files"


def test_emulators_have_nothing_twice() -> None:
    """But for the generated copies, of which another test says that they are copies."""
    seen: Counter[tuple[str, ...]] = Counter()
    for file in sources("emulators"):
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        lines = [line for line in lines if line and not line.startswith(("import ", "from ", "#"))]
        seen.update({tuple(lines[at : at + ALIKE]) for at in range(len(lines) - ALIKE + 1)})
    assert [lines for lines, times in seen.items() if times > 1] == []


def test_a_class_that_is_most_of_a_file_is_called_like_it() -> None:
    for file in sources(*PRODUCT):
        source = file.read_text("utf-8")
        for node in ast.parse(source).body:
            if not isinstance(node, ast.ClassDef) or node.name[0] == "_":
                continue
            if (
                node.name not in NAMED_OTHERWISE
                and (node.end_lineno or 0) - node.lineno > len(source.splitlines()) / 2
            ):
                known = {
                    _stem(word) for word in (*file.stem.split("_"), *file.parent.name.split("_"))
                }
                words = {_stem(word) for word in re.findall(r"[A-Z]+[a-z]*", node.name)}
                assert words & known, f"{file.relative_to(ROOT)} has {node.name}"


def _stem(word: str) -> str:
    return word.lower().removesuffix("s")[:5]
