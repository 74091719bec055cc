# SPDX-License-Identifier: MIT
"""A source of pictures that come through a pipe or a socket one after the other, without headers."""

from __future__ import annotations

import os
import time

from operatord_stage.headers import complete_hello
from operatord_stage.pictures import FORMATS, PAYLOAD_LIMIT, picture_bytes
from operatord_stage.serving.calling import Mistake
from operatord_stage.source import Extent
from operatord_stage.stage import BROKEN_STREAM, LINE_LIMIT, Fault, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from operatord_stage.source import Readable

HEADER_ROOM = 4096
"""Bytes in front of a picture in which its header is written."""


class RawSource:
    """Pictures of one size from a pipe or a socket, as a relay reads them (`source.Upstream`).

    This is for many bytes: `ffmpeg … -f rawvideo pipe:1` sends 1920×1080 pictures of rgb24, 6 MB each. Each
    is received into one buffer, its header is written in front of it, and consumers are sent both from there:
    no byte is copied but by the kernel, into the buffer and out of it. A larger pipe (`F_SETPIPE_SZ`) saves
    calls.

    While consumers that are waited for have yet to take a picture, the next one is not read, so that what
    writes into the pipe has to wait. A policy of `live` waits for nobody (`serve(…, policy="live")`).

    What the relay uses: `sock`, `view`, `hello`, `ended`, `dropped`, `read()` and `ask_for_frames()`. A
    subclass may override `members()`, for time stamps of the source's own, and `at_end()`, to go on with
    another pipe.
    """

    def __init__(self, sock: Readable, hello: Mapping[str, Any]) -> None:
        """Read from `sock`, an open pipe or a connected socket: anything with `fileno()` and `close()`.

        The hello says what there is: `width` and `height`; `format`, `fps`, `count`, `spacing` and others if
        they are known.
        """
        self.hello = checked_hello(hello)
        self.ended, self.dropped = False, 0
        self._picture = picture_bytes(self.hello)
        self.view = memoryview(bytearray(HEADER_ROOM + self._picture))
        self._fill = HEADER_ROOM
        self._next = 0
        self._begun: float | None = None
        self.go_on_with(sock)

    def go_on_with(self, sock: Readable) -> None:
        """Read from here from now on, beginning with a whole picture; the old one is left open."""
        os.set_blocking(sock.fileno(), False)
        self.sock = sock
        self._fill = HEADER_ROOM

    def read(self) -> list[Extent]:
        """Receive once, and return the picture if it is whole now."""
        try:
            received = os.readv(self.sock.fileno(), [self.view[self._fill :]])
        except BlockingIOError:
            return []
        except OSError as exc:
            raise Fault(BROKEN_STREAM, f"the source was lost: {exc}") from exc
        if not received:
            self.at_end()
            return []
        self._fill += received
        return [self._whole()] if self._fill == len(self.view) else []

    def at_end(self) -> None:
        """Say that the stream has ended; what there is of a picture is dropped.

        Called when nothing more comes. An override may call `go_on_with()` instead, or raise `Fault`.
        """
        self.ended = True

    def members(self, seq: int) -> Mapping[str, object]:
        """Return the members of a picture's header besides its number: `pts`, seconds since the first one.

        Called once for each picture, in their order, when it is whole.
        """
        now = time.monotonic()
        self._begun = self._begun or now
        return {"pts": round(now - self._begun, 6)}

    def ask_for_frames(self, wanted: bool) -> None:
        """Do nothing: it is asked by reading."""

    def _whole(self) -> Extent:
        """Return the picture in the buffer, with its header in front of it."""
        seq, self._next, self._fill = self._next, self._next + 1, HEADER_ROOM
        parts = [{"name": "image", "bytes": self._picture}]
        line = encode({"type": "frame", "seq": seq, **self.members(seq), "parts": parts})
        start = HEADER_ROOM - len(line)
        if start < 0:
            raise Mistake(
                f"a header of {len(line)} bytes; of a raw picture it may have {HEADER_ROOM}"
            )
        self.view[start:HEADER_ROOM] = line
        return Extent(start, HEADER_ROOM, HEADER_ROOM, len(self.view), len(self.view))


def checked_hello(hello: Mapping[str, Any]) -> dict[str, Any]:
    """Return a hello that is complete. Raises `Mistake` for one that breaks the stream format."""
    try:
        complete = complete_hello({**hello, "type": "hello"})
        if complete["format"] not in FORMATS:
            raise ValueError(f"format is not one of {', '.join(FORMATS)}")
        if (size := picture_bytes(complete)) > PAYLOAD_LIMIT:
            raise ValueError(f"a picture has {size} bytes, and it may have {PAYLOAD_LIMIT}")
        if len(encode(complete)) > LINE_LIMIT - 128:
            raise ValueError(f"it has more than {LINE_LIMIT} bytes")
    except (TypeError, ValueError) as exc:
        raise Mistake(f"the hello cannot be sent: {exc}") from exc
    return complete
