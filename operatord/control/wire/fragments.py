# SPDX-License-Identifier: MIT
"""Recognises lines in the middle of a JSON text that was spread over several lines. Pretty-printed JSON is
not part of the protocol, and each of its lines is refused. But some of them may look like requests, such as
``{}``, and must not be carried out. A line belongs to the text if the text so far is incomplete, or if it is
in a list; after a complete value, the next line is a new request after a mere typo. So a line without its end
costs its sender at most the next line.

People write comments into such texts, and other languages than JSON: where it lacks something is decided by
what the text ends with, comments apart. Nobody comments on half a line that is to be sent, so after one with
a comment more of its text is expected. A comment that goes on holds back every line up to its end, but no
more than `COMMENT_LINES`, and their sender is told what ends it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from operatord_protocol.codec import Refusal, Request
from operatord_protocol.errors import ParseError

PART = (
    "this line stands in the middle of a JSON text that began before, and was not executed: "
    "a request is whole in one line. Send {end} to end the text"
)
COMMENTED = (
    "this line stands in a comment that began in a line before, and was not executed: "
    "send {end} to end the comment"
)
COMMENT_LINES = 64
"""Lines that a comment holds back at most: what looks like the begin of one may be a slip."""

_DEPTH = 64
"""Levels of a text at most: more are refused in one line, too, and nobody writes them by hand."""
_LONG = 2048
"""Bytes of a line in which no comments are looked for: that costs too much, and nobody writes it by hand."""
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""Strings, and one without its end: none goes on in the next line."""
_ENDS = {b"/*": b"*/", b"<!--": b"-->"}
_CLOSING = bytes.maketrans(b"{[", b"}]")
_TOKENS = re.compile(
    rb"""
    # Comments that are over with the line: nothing of them is kept. Addresses and paths have none.
      (?:(?<![A-Za-z_*.~])/\*|/\*(?=[ ])).*?\*/ | <!--.*?--> | (?<![a-z]:)//.* | \#.*
    # Those of other languages begin with signs, where a name or a value is wanted or where a line begins.
    | (?:^|(?<=[\[{(,:])|(?<=[\[{(,:][ ])) (?:--|;|[^\w\s"'{}\[\](),:=<>/+\x80-\xff-]+(?![^ ])).*
    | (?<=[ ])(?:--|;)(?![^ ]).*
    # Of a comment that goes on, its begin.
    | ((?<![A-Za-z_*.~])/\*|/\*(?=[ ])|<!--).*
    # Of a string, its quote.
    | (")[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z) | (?<!\w)(')[^']*'
    | ([\[{(,: ]+|[^"'/\#<\[{(,: ]+|.)
    """,
    re.DOTALL | re.VERBOSE,
)
_NOTHING = (b"",) * _TOKENS.groups
"""What is kept of a comment."""
_REMARK = re.compile(rb"([:=]) ?(?!(?:-?\d[\w.+-]*|true|false|null) )[^ :=\"']+ ", re.IGNORECASE)
"""Several words in place of a value, which are a comment of whatever language."""
_WHOLE = re.compile(rb"[\w\"')}\]\x80-\xff]")
"""What a value ends with. All else, such as ``:`` and ``=``, is followed by one."""
_OTHERS = bytes(sorted(set(range(256)) - set(b"{}[]")))


class _Said(NamedTuple):
    """What a line says, comments apart."""

    text: bytes
    """Of strings it has their quotes only."""
    last: bytes
    """The byte that it ends with; of words that stand for a value it is what is before them."""
    commented: bool
    """Whether there is a comment in it."""
    comment: bytes
    """What begins a comment that goes on after the line; empty if none does."""


class Fragment(NamedTuple):
    """Where a text stands that is not over."""

    brackets: bytes
    """Those that are open, outermost first; at least one, unless a comment is open."""
    last: bytes
    """The byte that it ends with so far."""
    spread: bool
    """Whether it has gone on for more than one line, or will, as it has a comment."""
    comment: bytes = b""
    """What begins a comment that is not over; empty if there is none."""
    lines_left: int = COMMENT_LINES
    """Lines that the comment may still hold back."""

    def holds(self, request: Request) -> bool:
        """Tell whether the line of ``request`` is a part of the text.

        Right after half a line it may be a second attempt: always if it names a method, and else where no
        object can stand by the grammar of JSON. Once more of the text has come, it is taken for a part.
        """
        if self.comment:
            return True
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
        said, end = PART, self.brackets[::-1].translate(_CLOSING)
        if self.comment:
            said, end = COMMENTED, _ENDS[self.comment]
        return Refusal(request.dialect, request.id, ParseError(said.format(end=end.decode())))

    def after_object(self) -> Fragment | None:
        """Return where the text stands after a whole object in a line of its own; None if it is over."""
        return self.after_comment() if self.comment else Fragment(self.brackets, b"}", True)

    def after_comment(self) -> Fragment | None:
        """Return where the text stands after one more line of a comment; None if there were too many."""
        left = self.lines_left - 1
        return self._replace(lines_left=left) if left else None


def fragment(before: Fragment | None, line: bytes) -> Fragment | None:
    """Return where the text stands after ``line``, that is no JSON by itself; None if it is over."""
    if before is not None and before.comment:
        _, end, line = line.partition(_ENDS[before.comment])
        if not end:
            return before.after_comment()
    said = _said(line)
    found = said.text.translate(None, _OTHERS)
    last = said.last
    if before is not None:
        found = before.brackets + found
        last = last or before.last
    brackets = _open(found)
    if not brackets and not said.comment:
        return None
    return Fragment(brackets, last, said.commented or before is not None, said.comment)


def _said(line: bytes) -> _Said:
    """Take the comments out of a line, and what is in its strings."""
    if len(line) > _LONG:
        text = _STRINGS.sub(b'"', line).rstrip()
        return _Said(text, text[-1:], commented=False, comment=b"")
    # With single blanks only, what is before a comment can be looked back at.
    tokens = _TOKENS.findall(b" ".join(line.split()))
    text = b"".join(map(b"".join, tokens))
    comment = tokens[-1][0] if tokens else b""
    text = text.removesuffix(comment).rstrip()
    last = text[-1:]
    remark = _REMARK.search(text) if _WHOLE.match(last) else None
    if remark is not None:
        last = remark[1]
    return _Said(text, last, bool(comment or remark or _NOTHING in tokens), comment)


def _open(brackets: bytes) -> bytes:
    """Return those that are not closed. One that closes what is not open ends all that was before it."""
    for _ in range(_DEPTH):
        size = len(brackets)
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(brackets) == size:
            break
    rest = brackets[max(brackets.rfind(b"}"), brackets.rfind(b"]")) + 1 :]
    return rest if len(rest) <= _DEPTH else b""
