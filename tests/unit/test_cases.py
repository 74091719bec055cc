# SPDX-License-Identifier: MIT
"""The table of cases names tests that exist, and each of them names its case."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (TESTS / "cases" / "README.md").read_text()
ROW = re.compile(r"^\| ([NAFSE]\d+) \| .*? \|(.*)\|$", re.M)
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def _named() -> Iterator[tuple[str, str, str]]:
    for case, cell in ROW.findall(TABLE):
        for path, name in TEST.findall(cell):
            yield case, path, name


@functools.cache
def _docstrings(path: str) -> dict[str, str]:
    """Return the docstring of each function of a file, by its name."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse((TESTS / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("case", "path", "name"), list(_named()))
def test_each_test_in_the_table_exists_and_names_its_case(case: str, path: str, name: str) -> None:
    docstrings = _docstrings(path)
    assert name in docstrings, f"tests/{path} has no {name}"
    named = re.findall(r"\b[NAFSE]\d+\b", docstrings[name])
    assert case in named, f"the docstring of tests/{path}::{name} does not name {case}"


def test_the_table_has_each_case_once() -> None:
    cases = [case for case, _ in ROW.findall(TABLE)]
    assert len(cases) == len(set(cases))
    assert len(cases) > 50
