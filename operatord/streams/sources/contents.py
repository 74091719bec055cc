# SPDX-License-Identifier: MIT
"""What a file is by its first bytes, where that is hardly video: only a decoder knows what has pictures."""

from __future__ import annotations

import codecs
import os

from operatord_protocol.stream import Y4M

HEAD_BYTES = 512
"""Read of a file, to tell text from a container of video, which has other bytes among its first ones."""
_AUDIO = (
    b"fLaC",
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xf1",
    b"\xff\xf9",
    b"#!AMR",
)
"""What FLAC, MP3, AAC and AMR begin with."""
_LETTERS = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\n\v\f\r\x1b")


def head_of(path: str) -> bytes | None:
    """Return the first bytes of a regular file, all if it has fewer; None if it cannot be read from here."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # the adapter may be somebody else
    try:
        return os.pread(file, HEAD_BYTES, 0)
    except OSError:
        return None
    finally:
        os.close(file)


def other_than_video(head: bytes) -> str | None:
    """Return what a file seems to be that begins with these bytes; None if it may well have pictures."""
    if head.startswith(_AUDIO) or (head[:4], head[8:12]) == (b"RIFF", b"WAVE"):
        return "audio"
    return "text" if head and not head.startswith(Y4M) and _is_text(head) else None


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # it may be cut within a character
    except UnicodeDecodeError:
        return False
    return all(byte in _LETTERS or byte >= 0x80 for byte in head)
