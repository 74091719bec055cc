# SPDX-License-Identifier: MIT
"""Standard error of a program that must not block on a slow reader. A terminal after Ctrl-S, a pipe that
nobody reads and a journal that hangs block their writers, and with a daemon all its clients. So a thread
writes, from a queue. O_NONBLOCK is no solution: it would apply to all who share the terminal, such as a
shell. All of what Python writes to `sys.stderr` goes this way: log, warnings, the traceback of a crash.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TextIO, cast

MOST_BYTES = 1024**2
"""The longest queue. Records that come when it is full are only counted."""
LAST_WORDS = 0.5
"""Seconds in which a reader that still reads gets the rest when the program ends."""
GATHERED = 0.005
"""Seconds in which lines are gathered before they are written: to wake the thread for each one costs a busy
daemon more than to write it."""
_PIECE = select.PIPE_BUF
"""Bytes of whole lines that are written at once: no more, or lines of others who write to the same pipe could
come between (pipe(7))."""


class Loss(NamedTuple):
    """Records that nobody has read and nobody will."""

    records: int
    since: float
    """Seconds since the epoch, of the first; and of the last one:"""
    last: float


class BackgroundWriter(io.TextIOBase):
    """A text stream that takes lines at any time, in order, and has a thread write them to another one."""

    def __init__(self, stream: TextIO, most_bytes: int = MOST_BYTES) -> None:
        """Write to the descriptor of ``stream``. Raises `OSError` if it has none."""
        self._stream = stream
        self._fd = stream.fileno()
        self._most_bytes = most_bytes
        self.lost_line: Callable[[int], str] = _lost_line
        """Makes the line that says how many records were lost, when lines can be written again."""
        self.loss: Loss | None = None
        """All that was lost so far."""
        # A finalizer may write to this stream while the same thread does, so the lock is taken again.
        self._changed = threading.Condition(threading.RLock())
        self._unfinished = ""
        """The beginning of a line."""
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._missed = 0
        """Records that came when too much waited: all after those that wait."""
        self._is_writing = False
        threading.Thread(target=self._write_on, name="stderr", daemon=True).start()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of the stream, as `print` and others expect it
        """Of what is written."""
        return self._stream.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What the encoding lacks is escaped."""
        return "backslashreplace"

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self._fd

    def isatty(self) -> bool:
        """Tell whether a terminal is below."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Tell that it is."""
        return True

    def write(self, text: str) -> int:
        """Take a text; each that ends a line is a record."""
        with self._changed:
            whole, end, self._unfinished = (self._unfinished + text).rpartition("\n")
            if end:
                self._put(whole + end)
        return len(text)

    def finish(self, seconds: float = LAST_WORDS) -> bool:
        """Wait until all is written, but no longer than that; tell whether it is."""
        with self._changed:
            if self._unfinished:
                self._put(self._unfinished)
                self._unfinished = ""
            return self._changed.wait_for(
                lambda: not (self._waiting or self._is_writing), timeout=seconds
            )

    def _put(self, text: str) -> None:
        if self._missed or self._bytes >= self._most_bytes:  # never one from behind a gap before it
            self._missed += 1
            now = time.time()
            before = self.loss or Loss(0, now, now)
            self.loss = Loss(before.records + 1, before.since, now)
            return
        data = text.encode(self.encoding, self.errors)
        self._waiting.append(data)
        self._bytes += len(data)
        self._changed.notify_all()

    def close(self) -> None:
        """Take no more, and end the thread when it has written the rest. Idempotent."""
        with self._changed:
            super().close()
            self._changed.notify_all()

    def _write_on(self) -> None:
        while taken := self._take():
            for piece in _pieces(taken):
                with contextlib.suppress(OSError):  # gone, or a full disk: nobody can be told
                    _write_all(self._fd, piece)
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()

    def _take(self) -> Sequence[bytes]:
        """Wait for lines and return them; none when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closed)
        time.sleep(GATHERED)
        with self._changed:
            taken, missed = self._waiting, self._missed
            self._waiting, self._bytes, self._missed = [], 0, 0
            self._is_writing = bool(taken)
        if missed:
            taken.append(self.lost_line(missed).encode(self.encoding, self.errors))
        return taken


def _lost_line(records: int) -> str:
    return f"{records} log records were lost: nobody read them\n"


def _pieces(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Join lines up to the size that is written at once; longer ones stay by themselves."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > _PIECE:
            yield piece
            piece = b""
        piece += line
    yield piece


def _write_all(fd: int, data: bytes) -> None:
    """Write, however long it takes. Raises `OSError`."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Another program has set O_NONBLOCK on what it shares with this one.
            select.select([], [fd], [])


def never_wait() -> None:
    """Keep `sys.stderr` from ever holding up this program from now on, not even at its end.

    Without a descriptor below (closed, or replaced by a test) it stays as it is. Idempotent.
    """
    stream = sys.stderr
    if stream is None or isinstance(stream, BackgroundWriter):
        return
    with contextlib.suppress(OSError):
        writer = BackgroundWriter(stream)
        sys.stderr = cast("TextIO", writer)
        atexit.register(_end, writer, stream)


def _end(writer: BackgroundWriter, stream: TextIO) -> None:
    # The interpreter still writes when no thread runs any more.
    sys.stderr = stream if writer.finish() else None


def finish() -> None:
    """Give what waits to a reader that still reads, before the program ends without ado."""
    if (writer := background_writer()) is not None:
        writer.finish()


def background_writer() -> BackgroundWriter | None:
    """Return what `sys.stderr` is since `never_wait`, or None."""
    stream: object = sys.stderr
    return stream if isinstance(stream, BackgroundWriter) else None
