# SPDX-License-Identifier: MIT
"""SECURITY.md names tests and settings that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)


@functools.cache
def _functions(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_test_that_keeps_a_promise_exists(path: str, name: str) -> None:
    assert name in _functions(path), f"tests/{path} has no {name}"


def test_each_promise_names_what_keeps_it() -> None:
    promises = TEXT.partition("## What is promised")[2].partition("## What is not promised")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith("| promise |")]
    assert len(rows) > 15
    assert all("::" in row for row in rows)
