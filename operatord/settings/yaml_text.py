# SPDX-License-Identifier: MIT
"""YAML of settings, as its writers mean it, or a sentence with the line.

PyYAML reads YAML 1.1, in which more texts are numbers, dates and booleans than most writers know, and it
ignores contradictions: of a key that is given twice it keeps the last. Here a key is always a name, a stage
gets the text exactly as written, and ambiguous values are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from operatord.core.pipelines import env_text

_LEVELS = 64
"""Of nesting at most; settings need eight."""
_TAG = "tag:yaml.org,2002:"
_STR, _NULL, _MERGE = _TAG + "str", _TAG + "null", _TAG + "merge"
_NUMBERS = (_TAG + "int", _TAG + "float")
_BOOL = _TAG + "bool"
_SCALARS = (*_NUMBERS, _BOOL, _NULL)
_KNOWN = (*_SCALARS, _STR, _TAG + "seq", _TAG + "map")
_NULLS = ("", "~", "null", "Null", "NULL")
_UNWRITABLE = re.compile("[\\0\ud800-\udfff]")
"""Characters that neither UTF-8 nor a program's argument can have."""
_LARGE = 1e15
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?\Z")
_BASE_8 = re.compile(r"[-+]?0(?:o|[0-9])[0-9_]*\Z")

_RESOLVERS = {
    first: [each for each in resolvers if each[0] not in (_TAG + "timestamp", _TAG + "value")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
"""What YAML 1.1 reads as something else than text, by its first letter; without dates."""

Path = tuple[str, ...]
"""The names that lead to a setting; a place in a list is ``[0]``."""


class Unusable(Exception):
    """``problems`` has one sentence for each reason; none has a path of the host, or quotes the file."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


class NotYaml(Exception):
    """Says what is wrong and in which line, without quoting the text."""


class _Loader(yaml.SafeLoader):
    """Dates are text, and whatever is wrong has a line."""

    def __init__(self, text: str) -> None:
        self._depth = 0
        self.yaml_implicit_resolvers = _RESOLVERS
        super().__init__(text)

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Read a node with all that is in it."""
        self._depth += 1
        if parent is not None and self._depth > _LEVELS:
            what = f"more than {_LEVELS} levels of nesting"
            raise ComposerError(None, None, what, parent.start_mark)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Return what a node stands for. Of PyYAML's own errors, some have no line."""
        try:
            if node.tag == _NULL and node.value not in _NULLS:
                raise ValueError
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError) as exc:
            what = f"this cannot be read as {node.tag.removeprefix(_TAG)}"
            raise ConstructorError(None, None, what, node.start_mark) from exc


def parse(text: str) -> Any:
    """Return the one document that is in a text. Raises `Unusable`, `NotYaml`."""
    try:
        loader = _Loader(text)
    except ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise NotYaml(f"line {line}: a character that is not allowed") from exc
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before anything is constructed: then what `<<` merges stands among a mapping's own keys.
        if found := list(_problems(loader, node, (), {})):
            raise Unusable(*found)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise NotYaml(f"line {mark.line + 1}: {exc.problem}" if mark else exc.problem) from exc
    finally:
        loader.dispose()


def _problems(loader: _Loader, node: Node, path: Path, seen: dict[int, bool]) -> Iterator[str]:
    """Return a sentence for each thing that is refused, at any depth; make text of what is meant as such.

    ``seen`` has the nodes that were looked at before, by way of another alias, and whether all that is in
    them was.
    """
    if (done := seen.get(id(node))) is not None:
        if not done:
            yield _said(path, node, "contains itself", "leave it out")
        return
    seen[id(node)] = False
    if node.tag == _MERGE:  # in place of a value
        node.tag = _STR
    if node.tag not in _KNOWN:
        yield _said(path, node, "has a tag that settings do not have", "leave it out")
    elif isinstance(node, ScalarNode):
        yield from _scalar_problems(loader, node, path)
    elif isinstance(node, SequenceNode):
        for place, each in enumerate(node.value):
            yield from _problems(loader, each, (*path, f"[{place}]"), seen)
    elif isinstance(node, MappingNode):
        yield from _repeated(node, path)
        for key, each in node.value:
            for below, value in _below(path, key, each):
                yield from _problems(loader, value, below, seen)
    seen[id(node)] = True


def _below(path: Path, key: Node, value: Node) -> list[tuple[Path, Node]]:
    """Return what a member of a mapping has in it; what is merged has the mapping's own path."""
    if key.tag == _MERGE:
        merged = value.value if isinstance(value, SequenceNode) else [value]
        return [(path, each) for each in merged]
    return [((*path, key.value) if isinstance(key, ScalarNode) else path, value)]


def _repeated(node: MappingNode, path: Path) -> Iterator[str]:
    """Return a sentence for each key that a mapping has more than once, and make names of all."""
    lines: dict[str, list[int]] = {}
    for key, _ in node.value:
        if isinstance(key, ScalarNode):
            lines.setdefault(key.value, []).append(key.start_mark.line + 1)
            if key.tag in _SCALARS:
                key.tag = _STR
    for name, found in lines.items():
        if len(found) > 1:
            given = f"is given more than once, {_in_lines(found)}; put all into one"
            yield f"{_written((*path, name))}: {given}"


def _scalar_problems(loader: _Loader, node: ScalarNode, path: Path) -> Iterator[str]:
    if _UNWRITABLE.search(node.value):
        what = "has a character that cannot be passed on (half a surrogate pair, or NUL)"
        yield _said(path, node, what, "leave it out")
    if node.style:  # in quotes
        return
    match path:
        case ("pipelines", _, "stages", _, "command", _):
            node.tag = _NULL if node.tag == _NULL else _STR
        case ("pipelines", _, "stages", _, "env", _):
            yield from _variable_problems(loader, node, path)
        case ("pipelines", _, "stages", _, "late_bind") | ("sources", _, "late_bind"):
            node.tag = _STR if node.tag == _BOOL else node.tag  # off is one of its words
        case _ if node.tag in _NUMBERS and _BASE_60.match(node.value):
            what = f"is read as {_written_short(_number(loader, node))}, to the base of 60"
            yield _said(path, node, what, "write a plain number, or put text in quotes")
        case _ if node.tag != _NULL and _BASE_8.match(node.value):
            what = "begins with 0, which some read to the base of 8"
            yield _said(path, node, what, "write the number without it, or put text in quotes")


def _variable_problems(loader: _Loader, node: ScalarNode, path: Path) -> Iterator[str]:
    """Keep what a stage would be given in other words than there are, unless it is a truth value."""
    if node.tag == _BOOL and node.value.lower() not in ("true", "false"):
        advice = "write true or false, or put text in quotes"
        yield _said(path, node, "is a truth value in YAML", advice)
    elif node.tag in _NUMBERS and env_text(_number(loader, node)) != node.value:
        node.tag = _STR


def _written_short(number: int | float) -> str:
    return f"{number:g}" if abs(number) < _LARGE else "something very large"


def _number(loader: _Loader, node: ScalarNode) -> int | float:
    """Return what a number is read as. From a copy of it, for the loader keeps what it has read."""
    number: int | float = loader.construct_object(ScalarNode(node.tag, node.value, node.start_mark))
    return number


def _said(path: Path, node: Node, what: str, advice: str) -> str:
    said = f"{what}, {_in_lines([node.start_mark.line + 1])}; {advice}"
    return f"{_written(path)}: {said}" if path else said


def _written(path: Path) -> str:
    return ".".join(path).replace(".[", "[")


def _in_lines(found: Sequence[int]) -> str:
    numbers = [str(line) for line in sorted(set(found))]
    if len(numbers) == 1:
        return f"in line {numbers[0]}"
    return f"in lines {', '.join(numbers[:-1])} and {numbers[-1]}"
