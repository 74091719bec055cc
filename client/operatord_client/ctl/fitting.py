# SPDX-License-Identifier: MIT
"""Text as wide as a terminal: which columns of a table are shortened, and where lines are broken. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

GAP = "  "
NOTHING = "-"
"""What a cell without a value says."""
CUT = "…"


def fitted(
    headings: Sequence[str], rows: Iterable[Sequence[str]], least: Mapping[str, int], width: int
) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows that take ``width`` columns, if that can be had without those that ``least``
    does not name. It says how short the others may be cut, and is in the order in which they are.

    Columns without a value in any row go first; when all are cut, they go in that order as well.
    """
    lines = [list(headings), *map(list, rows)]
    columns = {name: list(cells) for name, *cells in zip(*lines, strict=True)}
    _leave_out(columns, [name for name in least if set(columns[name]) <= {NOTHING}], width)
    for name, shortest in least.items():
        if name in columns and (excess := _width(columns) - width) > 0:
            room = max(shortest, _widest(name, columns[name]) - excess)
            columns[name] = [cut(cell, room) for cell in columns[name]]
    _leave_out(columns, list(least), width)
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _leave_out(columns: dict[str, list[str]], names: Iterable[str], width: int) -> None:
    for name in names:
        if _width(columns) > width:
            columns.pop(name, None)


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(_widest(*column) + len(GAP) for column in columns.items()) - len(GAP)


def _widest(name: str, cells: Iterable[str]) -> int:
    return max(map(len, (name, *cells)))


def cut(text: str, room: int) -> str:
    """Return ``text``, with a mark in place of its end if it is longer than ``room``."""
    return text if len(text) <= room else text[: room - 1].rstrip() + CUT


def wrapped(text: str, room: int) -> list[str]:
    """Return ``text`` in lines of at most ``room``, but for words that are longer: these can be copied."""
    lines = []
    while len(text) > room and (end := _break(text, room)) > 0:
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*lines, text]


def _break(text: str, room: int) -> int:
    """Return where a line ends: after a comma, unless it would be half empty, or at a blank; else -1."""
    after_comma = text.rfind(", ", 0, room + 1) + 1
    if after_comma > room // 2:
        return after_comma
    blank = text.rfind(" ", 0, room + 1)
    return blank if blank > 0 else text.find(" ", room)
