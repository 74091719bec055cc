# SPDX-License-Identifier: MIT
"""A stream on its way into a file: whole frames only, whatever ends it."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self, Unpack

from operatord_client.options import Recorded, RecordOptions, RecordPath
from operatord_protocol.codec import encode
from operatord_protocol.stream import Y4M, End

from .cutter import Cutter, Piece

MOST_FPS = 1_000_000
"""Frames per second that a stream may have."""
SUFFIX = ".y4m"
"""Of files that get YUV4MPEG2 unless another format is asked for."""


class Tape:
    """A context manager. Left without an error, or by an interrupt, the file has an end of its own; left by
    any other error, it has the whole frames that had come.
    """

    def __init__(
        self,
        path: RecordPath,
        on_progress: Callable[[Recorded], object] = lambda _: None,
        **options: Unpack[RecordOptions],
    ) -> None:
        """Nothing is written before the stream has begun; ``on_progress`` is called once more when all is.

        Raises `FileExistsError`, `ValueError`.
        """
        _check(options)
        self._file = _File(path, overwrite=options.get("overwrite", False))
        wanted = options.get("format") or ("y4m" if self._file.suffix == SUFFIX else "raw")
        self._cutter = Cutter(wanted, options.get("fps"))
        self._on_progress = on_progress
        self._most, self._limit = options.get("frames"), options.get("seconds")
        self._begun: float | None = None
        self._numbers: tuple[int, int] | None = None
        """The first frame's and the last one's."""
        self._expected: int | None = None
        self._assumed_fps: float | None = None
        self._has_headers = False
        """Whether what is written ends with a line of its own."""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None or not issubclass(kind, Exception):
                self._write_own_end()
        finally:
            self._file.close()
            self.tell()

    def _write_own_end(self) -> None:
        """Have a recording that was stopped be a whole stream: it has as many frames as were written."""
        if self._has_headers and not self._ended:
            end = End(frames=self._file.kept.frames, dropped=self._dropped)
            self._file.write(encode(end) + b"\n")

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""
        return self._ended or self._file.kept.frames == self._most

    def patience(self, silence: float | None) -> float | None:
        """Return the seconds that the next bytes may take, of a stream that may be silent for ``silence``."""
        if self._begun is None:
            self._begun = time.monotonic()
        if self._limit is None:
            return silence
        left = max(0.001, self._begun + self._limit - time.monotonic())
        return left if silence is None else min(left, silence)

    @property
    def is_over(self) -> bool:
        """Whether the time is up that was to be recorded."""
        if self._limit is None or self._begun is None:
            return False
        return time.monotonic() >= self._begun + self._limit

    def feed(self, data: bytes | memoryview) -> None:
        """Write what came; no bytes are the end of the connection. Raises `StreamError`, `OSError`."""
        if not data:
            self._cutter.finish()
            self._ended = True
            return
        for piece in self._cutter.feed(data):
            self._take(piece)
            if self.done:
                return

    def _take(self, piece: Piece) -> None:
        if piece.kind == "head":
            self._begin(piece)
        self._file.write(piece.data, frames=int(piece.kind == "frame"))
        if piece.kind == "end":
            self._ended = True
        elif piece.seq is not None:
            first = piece.seq if self._numbers is None else self._numbers[0]
            self._numbers = first, piece.seq

    def _begin(self, head: Piece) -> None:
        self._file.open()
        self._assumed_fps = head.assumed_fps
        self._expected, self._has_headers = head.expected, not head.data.startswith(Y4M)
        if None not in (head.expected, self._most) and head.expected <= self._most:  # type: ignore[operator]
            self._most = None  # it comes to its own end

    def tell(self) -> None:
        """Tell how far it is."""
        self._on_progress(self.so_far)

    @property
    def so_far(self) -> Recorded:
        """What has been written."""
        seconds = 0.0 if self._begun is None else time.monotonic() - self._begun
        size, frames = self._file.kept
        known = frames, self._dropped, size, seconds, self._expected, self._ended
        return Recorded(*known, self._assumed_fps)

    @property
    def _dropped(self) -> int:
        if self._numbers is None:
            return 0
        first, last = self._numbers
        return max(0, last - first + 1 - self._file.kept.frames)


class _Kept(NamedTuple):
    """What is whole: one value, for an interrupt may come between any two steps."""

    bytes: int = 0
    frames: int = 0


class _File:
    """What is written to: a file that is made when it is opened, or one that was open before."""

    def __init__(self, target: RecordPath, *, overwrite: bool) -> None:
        """Raises `FileExistsError`."""
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._overwrite = overwrite
        self._can_be_cut = False
        self.kept = _Kept()
        if isinstance(target, str | os.PathLike):
            self._path = Path(target)
            self._require_none(self._path)
        else:
            self._file = target

    def _require_none(self, path: Path) -> None:
        """Raise `FileExistsError` for a file that may not go; devices and pipes are there to be written."""
        if self._overwrite:
            return
        try:
            mode = path.stat().st_mode
        except OSError:
            return  # when it is opened, that says what is wrong
        if stat.S_ISREG(mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    @property
    def suffix(self) -> str:
        """The end of its name, in lower case."""
        return "" if self._path is None else self._path.suffix.lower()

    def open(self) -> None:
        """Be ready to be written. Raises `OSError`."""
        if self._path is not None:
            self._require_none(self._path)
            self._file = self._path.open("wb", buffering=0)
            self._can_be_cut = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def write(self, data: bytes, frames: int = 0) -> None:
        """Write something whole, which has so many ``frames``. Raises `OSError`, which names the file."""
        assert self._file is not None
        try:
            self._cut()
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
            self._file.flush()
        except OSError as exc:
            if self._path is not None:
                exc.filename = str(self._path)
            raise
        self.kept = _Kept(self.kept.bytes + len(data), self.kept.frames + frames)

    def close(self) -> None:
        """Leave only what is whole, and close what was opened here. Idempotent."""
        if self._path is not None and self._file is not None:
            with self._file:
                self._cut()
            self._file = None

    def _cut(self) -> None:
        """Drop what an error, or an interrupt, has left half-written; a device or a pipe keeps it."""
        if self._can_be_cut and self._file is not None and self._file.tell() != self.kept.bytes:
            self._file.truncate(self.kept.bytes)
            self._file.seek(self.kept.bytes)


def _check(options: RecordOptions) -> None:
    """Raise `ValueError` for what cannot be meant."""
    if (format := options.get("format")) not in (None, "raw", "y4m"):
        raise ValueError(f"format: expected 'raw' or 'y4m', got {format!r}")
    if (frames := options.get("frames")) is not None and frames < 1:
        raise ValueError(f"frames: expected at least 1, got {frames}")
    if (seconds := options.get("seconds")) is not None and not seconds > 0:
        raise ValueError(f"seconds: expected more than 0, got {seconds:g}")
    if (fps := options.get("fps")) is not None and not 0 < fps <= MOST_FPS:
        raise ValueError(f"fps: expected more than 0, up to {MOST_FPS}, got {fps:g}")
