# SPDX-License-Identifier: MIT
"""The files of the blocking client that are made from the client for asyncio are what `make client` makes."""

from __future__ import annotations

import ast
import io
import re
import runpy
import tokenize
from pathlib import Path
from typing import Any

import pytest

TOOL: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "client"))
FOLDER: Path = TOOL["FOLDER"]
MADE: dict[str, str] = TOOL["MADE"]
OF_ASYNCIO = re.compile(
    r"\b(?:async\w*|await\w*|(?:__)?a(?:enter|exit|iter|next)\w*|coroutine|cancellation|loop|task)s?\b",
    re.IGNORECASE,
)


def text_of(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def substance(text: str) -> tuple[str, list[str]]:
    """Return all of a file but its layout, which is ruff's: code, docstrings, comments."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return ast.dump(ast.parse(text)), comments


def made(name: str, source: str) -> str:
    text: str = TOOL["blocking"](source, MADE[name])
    return text


@pytest.mark.parametrize("name", MADE)
def test_file_is_what_its_source_makes(name: str) -> None:
    assert substance(text_of(name)) == substance(made(name, text_of(MADE[name]))), "make client"


def test_change_of_either_alone_is_noticed() -> None:
    """Were it that of a docstring, of a comment or of a default."""
    name = "session.py"
    ours, theirs = text_of(name), text_of(MADE[name])
    same = substance(ours)
    for old, new in [
        ("16 hexadecimal", "16 octal"),
        ("# ---", "# ==="),
        ("None = None", "None = 1"),
    ]:
        assert substance(ours.replace(old, new, 1)) != same
        assert substance(made(name, theirs.replace(old, new, 1))) != same


@pytest.mark.parametrize("name", MADE)
def test_it_says_so_and_nothing_of_asyncio(name: str) -> None:
    licence, note, rest = text_of(name).split("\n", 2)
    assert licence.startswith("# SPDX")
    assert note.startswith(f"# Generated from {MADE[name]} by tools/client")
    assert OF_ASYNCIO.search(rest) is None


def test_every_phrase_of_the_tool_is_used() -> None:
    sources = [text_of(source) for source in MADE.values()]
    for phrase in TOOL["PHRASES"]:
        assert any(phrase in text for text in sources), phrase


def test_source_that_does_not_say_what_is_made_of_it_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"client\.py: line 2 has to say"):
        TOOL["blocking"]("# one\n# two\n'''three'''\n", "async_client.py")


AWAITED = '''# licence
# make client
"""The twin."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, overload

from ._async_connection import AsyncConnection
from ._core import decode_result
from .async_feeds import AsyncFeed
from .errors import WireError

if TYPE_CHECKING:
    from .async_client import AsyncClient


class AsyncThing:
    async def __aenter__(self: AsyncClient) -> AsyncGenerator[Any, None]:
        async with self.a(), await self.b():
            async for each in self.c(AsyncConnection):
                yield each

    def logs(self) -> Coroutine[Any, Any, int] | AsyncFeed[WireError]: ...
'''
CALLED = '''# licence
# Generated from async_thing.py by tools/client: change that one, then run make client.
"""The twin."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ._connection import Connection
from .errors import WireError
from .feeds import Feed

if TYPE_CHECKING:
    from .client import Client


class Thing:
    def __enter__(self: Client) -> Generator[Any, None, None]:
        with self.a(), self.b():
            yield from self.c(Connection)

    def logs(self) -> int | Feed[WireError]: ...
'''


def test_what_is_awaited_is_called() -> None:
    found = TOOL["blocking"](AWAITED, "async_thing.py")
    assert substance(found) == substance(CALLED)
