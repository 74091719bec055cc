# SPDX-License-Identifier: MIT
"""Reads YAML of settings: a file, or the value of a variable.

What PyYAML passes over in silence is refused here: of a key that is given twice, it keeps the last.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST_BYTES = 256 * 1024
"""Of a settings file. There are devices that have no end; and to parse so much takes 3 s, in which a daemon
that serves answers 5 ms later than usual (50 ms at most, on two cores)."""
_MERGE = "tag:yaml.org,2002:merge"


class Unusable(Exception):
    """``problems`` has one sentence for each reason; none has a path of the host, or quotes the file."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


def read(path: Path, *, again: bool) -> Any:
    """Return what a file holds. Raises `Unusable`.

    A pipe is waited for, as a shell's ``<(…)`` is one, but never ``again``, in a daemon that serves: it is
    used up then, or waits for somebody who writes into it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (os.O_NONBLOCK if again else 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if again and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unusable(
                    "the settings can be read again from a regular file only, and they are not in one; "
                    "restart instead"
                )
            data = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise Unusable(f"the settings file cannot be read: {exc.strerror}") from exc
    if len(data) > MOST_BYTES:
        raise Unusable(
            f"the settings file is larger than {MOST_BYTES // 1024} KiB; write once what pipelines have in "
            "common, under an anchor (&name), and merge it (<<: *name)"
        )
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise Unusable("the settings file is not UTF-8") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise Unusable(f"the settings file is not YAML: {problem(exc)}") from exc


def value(text: str) -> Any:
    """Return what a variable holds. Raises `Unusable`."""
    try:
        return parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise Unusable(f"{problem(exc)}; put the value in quotes") from exc


def parse(text: str) -> Any:
    """Return the one document that is in a text. Raises `Unusable`, and what PyYAML does."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before anything is constructed: then what `<<` merges stands among a mapping's own keys.
        if repeated := list(_repeated(loader, node, "", set())):
            raise Unusable(*repeated)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def problem(exc: Exception) -> str:
    """Return what is wrong and in which line, without quoting the file."""
    what, mark = getattr(exc, "problem", None), getattr(exc, "problem_mark", None)
    return f"line {mark.line + 1}: {what}" if mark else (what or "it cannot be understood")


def _repeated(loader: yaml.SafeLoader, node: Node, path: str, seen: set[int]) -> Iterator[str]:
    """Return a sentence for each key that a mapping has more than once, at any depth."""
    if id(node) in seen:  # an alias of what was looked at where its anchor is
        return
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        for place, each in enumerate(node.value):
            yield from _repeated(loader, each, f"{path}[{place}]", seen)
    if not isinstance(node, MappingNode):
        return
    lines: dict[Hashable, list[int]] = {}
    for key, _ in node.value:
        if isinstance(key, ScalarNode) and key.tag != _MERGE:
            lines.setdefault(loader.construct_object(key), []).append(key.start_mark.line + 1)
    for name, found in lines.items():
        if len(found) > 1:
            yield f"{_below(path, name)}: is given more than once, {_in_lines(found)}; put all into one"
    for key, each in node.value:
        below = _below(path, key.value) if isinstance(key, ScalarNode) else path
        yield from _repeated(loader, each, below, seen)


def _below(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _in_lines(found: Sequence[int]) -> str:
    numbers = [str(line) for line in sorted(set(found))]
    if len(numbers) == 1:
        return f"in line {numbers[0]}"
    return f"in lines {', '.join(numbers[:-1])} and {numbers[-1]}"
