# SPDX-License-Identifier: MIT
"""The two clients are one for who reads about them: names, signatures, defaults, docstrings, errors.

Read from the sources, without ``Async``, ``async_`` and what says that something is awaited. What cannot
be the same is listed here, with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import operatord_client

FOLDER = Path(operatord_client.__file__).parent
TWINS = {
    "_transport/connection": "_transport/async_connection",
    "client": "async_client",
    "feeds": "async_feeds",
    "frames": "async_frames",
    "session": "async_session",
}
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

# By module, then by name.
DIFFERENT: dict[str, dict[str, str]] = {
    "_transport/connection": {
        "Connection.__init__": "asyncio's two ends, and a socket",
        "LOOK_EVERY": "tasks cannot be interrupted like threads",
        "time_left": "asyncio counts time itself",
    },
    "feeds": {
        "LastingFeed.after_fork": "threads have locks",
        "LastingFeed.close": "the thread that waits for the daemon to come back is to be woken",
        "open_events": "deprecated",
        "open_log": "deprecated",
    },
    "frames": {
        "FrameStream.__init__": "a socket, and what is to make a connection",
        "FrameStream.before_read": "a blocking read cannot be cancelled",
        "FrameStream.fileno": "asyncio selects itself",
        "RawStream": "a file, and asyncio's two ends",
        "Streams": "deprecated",
    },
}
DIFFERENT_WORDS: dict[str, dict[str, str]] = {
    "_transport/connection": {
        "": "threads, and tasks",
        "Connection.close": "any thread may",
        "Connection.converse": "interrupts, and cancellations",
    },
    "client": {
        "": "the example, and threads or tasks",
        "Client.events": "a feed for asyncio is subscribed later",
        "Client.start": "interrupts, and cancellations",
    },
    "feeds": {
        "": "a feed for asyncio is subscribed later",
        "Feed.open": "a feed for asyncio is subscribed later",
        "LastingFeed.take": "connecting cannot be cancelled",
    },
    "frames": {
        "": "the example; a stream for asyncio is connected later",
        "FrameStream.open": "a stream for asyncio is connected later",
        "FrameStream.hello": "a property cannot be awaited",
    },
}
DIFFERENT_ERRORS: dict[str, set[str]] = {
    "frames": {
        "StreamError('the hello has not come yet: read in `async with`, or await open() first')"
    },
}


def alike(text: str) -> str:
    """Return text of either twin without what says that it is the one for asyncio."""
    text = re.sub(r"Coroutine\[Any, Any, ([^\]]+)\]", r"\1", text)
    text = re.sub(r"AsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]", text)
    text = re.sub(r"Awaitable\[([^\[\]]+(?:\[\w+\])?)\]", r"\1", text)
    text = re.sub(r"Async(?=[A-Z])|async_", "", text)
    return re.sub(r"__a(enter|exit|iter|next)__", r"__\1__", text)


class Described(dict[str, list[str]]):
    """What a module offers: for each name its signatures or values; and apart, its docstrings."""

    def __init__(self, tree: ast.Module) -> None:
        self.words = {"": alike(ast.get_docstring(tree) or "")}
        self._read(tree.body, "")

    def _read(self, body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, FUNCTION):
                self._note(prefix + node.name, _signature(node), node)
                if node.name == "__init__":
                    for name in _attributes(node):
                        self._note(prefix + name, "attribute")
            elif isinstance(node, ast.ClassDef):
                bases = ", ".join(map(ast.unparse, node.bases))
                self._note(prefix + node.name, f"class({bases})", node)
                self._read(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._note(prefix + ast.unparse(target), ast.unparse(node.value))

    def _note(self, name: str, text: str, node: FUNCTION | ast.ClassDef | None = None) -> None:
        name, last = alike(name), name.rpartition(".")[2]
        if last.startswith("_") and not last.startswith("__"):
            return
        if "= renamed(" in f"= {text}":
            return  # deprecated: under this name one finds its twin's, and there is another
        self.setdefault(name, []).append(alike(text))
        self.words[name] = alike(ast.get_docstring(node) or "") if node else ""


def _signature(node: FUNCTION) -> str:
    decorators = "".join(f"@{ast.unparse(each)} " for each in node.decorator_list)
    returns = "" if node.returns is None else ast.unparse(node.returns)
    return f"{decorators}({ast.unparse(node.args)}) -> {returns}"


def _attributes(init: FUNCTION) -> Iterator[str]:
    """Yield what a constructor sets, without a class's own annotations."""
    for node in ast.walk(init):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def raised(tree: ast.Module) -> set[str]:
    """Return the errors that a module makes, each with its text."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {alike(ast.unparse(call)) for call in calls if _is_error(ast.unparse(call.func))}


def _is_error(name: str) -> bool:
    return name in operatord_client.errors.__all__


def parsed(name: str) -> ast.Module:
    return ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))


@pytest.mark.parametrize("name", TWINS)
def test_twins_offer_the_same(name: str) -> None:
    ours, theirs = Described(parsed(name)), Described(parsed(TWINS[name]))
    differing = {each for each in ours.keys() | theirs.keys() if ours.get(each) != theirs.get(each)}
    assert differing == DIFFERENT.get(name, {}).keys()


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_described_by_the_same_words(name: str) -> None:
    ours, theirs = Described(parsed(name)).words, Described(parsed(TWINS[name])).words
    differing = {each for each in ours.keys() & theirs.keys() if ours[each] != theirs[each]}
    assert differing - DIFFERENT.get(name, {}).keys() == DIFFERENT_WORDS.get(name, {}).keys()


@pytest.mark.parametrize("name", TWINS)
def test_twins_say_the_same_when_something_is_wrong(name: str) -> None:
    ours, theirs = raised(parsed(name)), raised(parsed(TWINS[name]))
    assert ours ^ theirs == DIFFERENT_ERRORS.get(name, set())


def test_each_public_name_has_its_twin() -> None:
    names = set(operatord_client.__all__)
    twins = {name for name in names if name.startswith(("Async", "async_"))}
    assert {alike(name) for name in twins} < names
    defined = {
        name for module in TWINS for name in Described(parsed(module)) if name in names - twins
    }
    assert {alike(name) for name in twins} == defined
