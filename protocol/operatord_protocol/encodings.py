# SPDX-License-Identifier: MIT
"""Recognises text that is not UTF-8 by its first bytes, and says what to send instead."""

from __future__ import annotations

MARKS = {
    b"\xef\xbb\xbf": "UTF-8 with a byte order mark",
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Encodings by their byte order mark (Unicode 15.0, section 23.8); longer marks first."""


def foreign_encoding(text: bytes) -> str | None:
    """Return what ``text`` is written in, when its beginning shows that it is not plain UTF-8.

    Without a mark it is the zero bytes that show it: the first character of any line of ours is ASCII. A line
    after the first one begins with the second half of the newline before it. A stray NUL shows nothing: in
    UTF-16, about half of the bytes are zero.
    """
    for mark, name in MARKS.items():
        if text.startswith(mark):
            return name
    begin = text[:8].rstrip(b"\r\n")
    zeros = begin.count(0)
    if b"\x00" not in begin[:2] or zeros == len(begin) or 4 * zeros < len(begin):
        return None
    return "UTF-32" if 2 * zeros > len(begin) + 1 else "UTF-16"


def what_to_send(name: str) -> str:
    """Return the sentence for whoever sends text in the encoding ``name``."""
    return (
        f"this is {name}: send UTF-8 without a byte order mark. In PowerShell, set "
        "$OutputEncoding = [Text.UTF8Encoding]::new($false) before piping, and write files with "
        "-Encoding ascii or utf8NoBOM"
    )
