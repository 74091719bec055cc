# SPDX-License-Identifier: MIT
"""Lines in the middle of a JSON text that somebody has spread over several lines.

A pretty-printed text is none of ours, and each of its lines is refused. But some of them may look like
requests, ``{}`` first of all, and must not be carried out. What comes where the text lacks something is a
part of it, and so is what comes in a list; what comes after a whole value is a new line of somebody who has
only made a slip. So a line that lacks its end costs its sender at most the next one.

People write comments into such texts, and other languages than JSON: where it lacks something is decided by
what the text ends with, comments apart.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from operatord_protocol.codec import Refusal, Request
from operatord_protocol.errors import ParseError

PART = (
    "this line stands in the middle of a JSON text that began before, and was not executed: "
    "a request is whole in one line"
)

_DEPTH = 64
"""Levels of a text at most: more are refused in one line, too, and nobody writes them by hand."""
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""Strings, and one without its end: none goes on in the next line."""
_COMMENTS = re.compile(rb"//.*|#.*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_WHOLE = re.compile(rb"[\w\"')}\]\x80-\xff]")
"""What a value ends with. All else, such as ``:`` and ``=``, is followed by one."""
_OTHERS = bytes(sorted(set(range(256)) - set(b"{}[]")))


class Fragment(NamedTuple):
    """Where a text stands that is not over."""

    brackets: bytes
    """Those that are open, outermost first; at least one."""
    last: bytes
    """The byte that it ends with so far."""
    spread: bool
    """Whether it has gone on for more than one line."""

    def holds(self, request: Request) -> bool:
        """Tell whether the line of ``request`` is a part of the text.

        Right after half a line it may be a second attempt: always if it names a method, and else where no
        object can stand by the grammar of JSON. Once more of the text has come, it is taken for a part.
        """
        names_method = request.dialect != "seed"
        if self.brackets.endswith(b"["):
            return not names_method or (self.spread and self.last in (b"[", b","))
        if self.spread:
            return self._lacks_something
        return not names_method and self._lacks_something and self.last not in (b"{", b",")

    @property
    def _lacks_something(self) -> bool:
        return _WHOLE.match(self.last) is None

    def refuse(self, request: Request) -> Refusal:
        """Return what its sender is told."""
        return Refusal(request.dialect, request.id, ParseError(PART))

    def after_object(self) -> Fragment:
        """Return where the text stands after a whole object in a line of its own."""
        return Fragment(self.brackets, b"}", True)


def fragment(before: Fragment | None, line: bytes) -> Fragment | None:
    """Return where the text stands after ``line``, that is no JSON by itself; None if it is over."""
    said = _COMMENTS.sub(b"", _STRINGS.sub(b'"', line)).rstrip()
    last = said[-1:] or (before.last if before is not None else b"")
    found = said.translate(None, _OTHERS)
    if before is not None:
        found = before.brackets + found
    brackets = _open(found)
    return Fragment(brackets, last, before is not None) if brackets else None


def _open(brackets: bytes) -> bytes:
    """Return those that are not closed. One that closes what is not open ends all that was before it."""
    for _ in range(_DEPTH):
        size = len(brackets)
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(brackets) == size:
            break
    rest = brackets[max(brackets.rfind(b"}"), brackets.rfind(b"]")) + 1 :]
    return rest if len(rest) <= _DEPTH else b""
