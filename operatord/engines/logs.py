# SPDX-License-Identifier: MIT
"""From what a stage wrote to `LogLine`: cutting bytes into lines, keeping the last of them.

No I/O here. Every buffer has a bound, because a stage may write anything: an endless line, bytes that are not
UTF-8, or output without end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Literal

from operatord.engines.base import LogLine
from operatord.waking import Waiters

LINE_BYTES = 8 * 1024
"""Longest line that is kept; what a line has beyond that is dropped."""

MOST_LINES = 10_000
"""Lines of one stage that are kept: as many as can be asked for …"""

BOOK_BYTES = 1024 * 1024
"""… and their size together, counted in characters. A line takes some 200 bytes beside them."""

_FRAME_HEADER = 8
_FRAME_BYTES = 1024 * 1024
_STREAMS: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}


class TruncatingSplitter:
    """Cut a stream of bytes into lines, and of each keep its first ``limit`` bytes, however it is chunked."""

    def __init__(self, limit: int = LINE_BYTES) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._has_begun = False

    def feed(self, data: bytes) -> list[str]:
        """Take ``data`` and return the lines that it completes."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._append(piece)
            lines.append(self._take())
        if rest:
            self._append(rest)
        return lines

    def flush(self) -> list[str]:
        """Return the line that was begun and never ended, if there is one."""
        return [self._take()] if self._has_begun else []

    def _append(self, piece: bytes) -> None:
        self._has_begun = True
        self._begun += piece[: self._limit - len(self._begun)]

    def _take(self) -> str:
        line = self._begun.removesuffix(b"\r").decode("utf-8", "replace")
        self._begun.clear()
        self._has_begun = False
        return line


class FrameReader:
    """Read the log frames of a Docker Engine, asked for with timestamps.

    A frame is a stream number, three zero bytes, a 32-bit big-endian length, and the payload
    ``<time> <text>`` (Docker Engine API 1.41, "ContainerAttach", stream format). A line of more than
    16 KiB arrives as several frames, each with a time of its own and only the last with a newline.
    """

    def __init__(self, line_limit: int = LINE_BYTES, frame_limit: int = _FRAME_BYTES) -> None:
        self._frame_limit = frame_limit
        self._buffer = bytearray()
        self._splitters = {name: TruncatingSplitter(line_limit) for name in _STREAMS.values()}
        self._begun_at: dict[str, str] = {}

    def feed(self, data: bytes) -> list[LogLine]:
        """Take ``data`` and return the lines that it completes. Raises `ValueError` for non-frames."""
        self._buffer += data
        lines: list[LogLine] = []
        while (payload := self._next_frame()) is not None:
            lines += self._lines(*payload)
        return lines

    @property
    def begun_at(self) -> Mapping[str, str]:
        """For each stream with a line that was begun and has not ended, when that was."""
        return self._begun_at

    def flush(self) -> list[LogLine]:
        """Return the lines that were begun and never ended."""
        return [
            LogLine(time=self._begun_at.pop(name, ""), stream=name, line=line)
            for name, splitter in self._splitters.items()
            for line in splitter.flush()
        ]

    def _next_frame(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        if len(self._buffer) < _FRAME_HEADER:
            return None
        stream = _STREAMS.get(self._buffer[0])
        end = _FRAME_HEADER + int.from_bytes(self._buffer[4:_FRAME_HEADER], "big")
        if stream is None or end > self._frame_limit:
            raise ValueError("these are not log frames")
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_FRAME_HEADER:end])
        del self._buffer[:end]
        return stream, payload

    def _lines(self, stream: Literal["stdout", "stderr"], payload: bytes) -> list[LogLine]:
        stamp, _, text = payload.partition(b" ")
        time = self._begun_at.setdefault(stream, stamp.decode("ascii", "replace"))
        lines = self._splitters[stream].feed(text)
        if lines:
            del self._begun_at[stream]
        return [LogLine(time=time, stream=stream, line=line) for line in lines]


class LinesRead:
    """What somebody has read of a log, so that reading it again can go on where that ended.

    Each of its streams is gone through for itself, for only there do lines begin in the order in which they
    are told: a place in a stream is the time of its last line, and how many lines have that time.
    """

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._before: dict[str, str] = {}
        self._count: Counter[str] = Counter()
        self._newest = ""

    def add(self, line: LogLine) -> None:
        """Note a line that was read, in the log's order."""
        last = self._last.get(line.stream, line.time)
        if line.time != last:
            self._before[line.stream], self._count[line.stream] = last, 0
        self._last[line.stream] = line.time
        self._count[line.stream] += 1
        self._newest = max(self._newest, line.time)

    def since(self, begun_at: Mapping[str, str]) -> str:
        """Return the time from which to read again; empty when nothing was read.

        ``begun_at`` has those of the lines that have not ended. It is earlier than that of the last line,
        because an engine goes by the times of frames: it would tell the rest of a line that began before.
        """
        if not self._last:
            return ""
        for stream, time in begun_at.items():
            self._last.setdefault(stream, time)
        return min([*self._last.values(), *self._before.values()])

    def had(self, line: LogLine) -> bool:
        """Tell whether a line was read before, of each line of a second reading, in order."""
        last = self._last.get(line.stream, self._newest)
        if line.time == last and self._count[line.stream]:
            self._count[line.stream] -= 1
            return True
        return line.time < last


class Tail:
    """The last lines, bounded in number and in size; the newest is kept whatever its size."""

    def __init__(self, size: int = BOOK_BYTES, lines: int = MOST_LINES) -> None:
        self._size, self._most = size, lines
        self.lines: deque[LogLine] = deque()
        self._held = 0

    def add(self, line: LogLine) -> None:
        """Keep a line, and forget the oldest beyond the bounds."""
        self.lines.append(line)
        self._held += len(line.line) + 1
        while len(self.lines) > 1 and (self._held > self._size or len(self.lines) > self._most):
            self._held -= len(self.lines.popleft().line) + 1


class LogBook:
    """The last lines of one stage, for any number of readers on one event loop."""

    def __init__(self, size: int = BOOK_BYTES) -> None:
        self._tail = Tail(size)
        self._end = 0  # the number of lines ever written; the oldest kept is _end - len(_lines)
        self._closed = False
        self._changed = Waiters()

    def write(self, stream: Literal["stdout", "stderr"], *lines: str) -> None:
        """Add lines that were written now, and forget the oldest beyond the bounds."""
        now = _now()
        for line in lines:
            self._tail.add(LogLine(time=now, stream=stream, line=line))
        self._end += len(lines)
        self._changed.wake()

    def close(self) -> None:
        """Say that nothing more will be written: followers end. Idempotent."""
        self._closed = True
        self._changed.wake()

    def tail(self, count: int) -> list[LogLine]:
        """Return the last ``count`` lines, oldest first."""
        return list(self._tail.lines)[-count:] if count > 0 else []

    async def follow(self, tail: int) -> AsyncGenerator[LogLine, None]:
        """Yield the last ``tail`` lines and then new ones until the book is closed.

        A reader too slow for the bounds misses lines; it never holds up the writer.
        """
        kept = self._tail.lines
        position = self._end - min(max(tail, 0), len(kept))
        while True:
            while position < self._end:
                oldest = self._end - len(kept)
                position = max(position, oldest)
                line = kept[position - oldest]
                position += 1
                yield line
            if self._closed:
                return
            await self._changed.wait()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
