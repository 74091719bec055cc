# SPDX-License-Identifier: MIT
"""One run of ffmpeg: started, read, and ended."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import IO

from camera_url import CameraUrl
from colours import Colours
from ffmpeg_command import Call
from ffmpeg_words import (
    advice,
    is_permanent,
    is_refused,
    is_untimed,
    parse_words,
    reason,
    source_fps,
    source_seconds,
    written_colours,
)
from nut import NutReader
from operatord_stage.stage import BAD_SETTING, Fault

WAITING_BYTES = 1 << 20
"""Bytes of pictures that may wait to be read, if the system allows as many."""
IN_ONE_CALL = struct.pack("ll", 0, 100_000)
"""Seconds and microseconds for which a call waits for the rest of a picture, before somebody may end it."""
LEAVE = 0.3
"""Seconds for ffmpeg to take leave of the source before it is killed."""
SAID_EVERY = 2.0
"""Seconds between two errors that are passed on: of a bad line there may be hundreds."""
REMEMBERED = 16
"""Errors that are remembered to explain an end."""
LONGEST_LINE = 1 << 16
"""Bytes of a line of its words that are looked at: a recording may have a title of any length."""
FACTS = 5.0
"""Seconds for ffmpeg's descriptions to arrive, which it writes before its first picture."""


class Decoder:
    """ffmpeg, one run after the other."""

    def __init__(self, url: CameraUrl) -> None:
        """Start nothing yet. The URL's secrets are kept out of what is passed on of its words."""
        self.fps: float | None = None  # as the source says
        self.seconds: float | None = None  # of a recording, as its head says
        self.untimed = False  # its pictures have no times, and that rate is ffmpeg's invention
        self.colours = Colours()  # of the pictures that it writes
        self._secrets, self._hidden = url.secrets, url.hidden_place
        self._errors: deque[str] = deque(maxlen=REMEMBERED)
        self._described = threading.Event()
        self._opened = self._leaving = self._stopped = self._writes = False
        self._silent_until = 0.0
        self._stop, self._stopper = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, call: Call) -> None:
        """Start a run. Raises `Fault` if there is no ffmpeg."""
        self._errors.clear()
        self._described.clear()
        self._opened = self._leaving = self._writes = False
        self._pictures, theirs = pictures_channel()
        pipe = subprocess.PIPE
        try:
            with theirs:
                process = subprocess.Popen(
                    call.arguments,
                    stdin=pipe,
                    stdout=theirs.fileno(),
                    stderr=pipe,
                    env=environment(),
                )
        except OSError as exc:
            why = f"ffmpeg cannot be started, is it installed? ({exc.strerror})"
            raise Fault(BAD_SETTING, why) from exc
        assert process.stdin and process.stderr
        self._process = process
        self._listener = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listener.start()
        with contextlib.suppress(OSError), process.stdin as listing:  # it may have ended already
            listing.write(call.listing)

    def open(self, seconds: float) -> NutReader:
        """Wait for the first picture. Raises `EOFError`, NutError or TimeoutError if none comes in time."""
        reader = NutReader(self._pictures, self._stop, seconds)
        self._described.wait(FACTS)
        self._opened = True
        return reader

    def end(self, cause: Exception) -> bool:
        """End it after what its reader raised; tell whether it has read its source to a proper end.

        When it cannot write any more, it takes leave of the source.
        """
        process = self._process
        assert process
        if not isinstance(cause, EOFError):
            self._errors.append(str(cause))
        elif not self._stopped and self._has_ended(process, LEAVE):
            return process.returncode == 0
        self._leaving = True
        self._pictures.close()
        self._end_for_good(process)
        return False

    def close(self) -> None:
        """Have whoever reads from it, in another thread, end it, and see to it that it does."""
        self._stopped = True
        self._stopper.close()
        if self._process:
            self._end_for_good(self._process)

    def _end_for_good(self, process: subprocess.Popen[bytes]) -> None:
        if not self._has_ended(process, LEAVE):
            process.kill()
            self._has_ended(process, None)

    def _has_ended(self, process: subprocess.Popen[bytes], seconds: float | None) -> bool:
        """Wait for its end, and for all that it has said; tell whether both have come."""
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._listener.join(LEAVE)
        return True

    def reason(self) -> str:
        """Return why it ended, as a clause without credentials."""
        return reason(list(self._errors), opened=self._opened)

    def is_permanent(self) -> bool:
        """Tell whether what it complained of is of the kind that stays."""
        return is_permanent(list(self._errors))

    def advice(self) -> str:
        """Return what can be done, as a clause after a semicolon; empty where nothing is known."""
        return advice(list(self._errors))

    def is_refused(self) -> bool:
        """Tell whether it was refused for its credentials."""
        return is_refused(list(self._errors))

    def _listen(self, stream: IO[bytes]) -> None:
        """Read what it says until it ends, so that it never waits for that."""
        with stream:
            for raw in beginnings(stream):
                words = raw.decode(errors="replace")
                line = parse_words(words, self._secrets, self._hidden)
                if not line.is_error:
                    self._note(line.text)
                elif not (self._leaving or self._stopped):  # else it only complains of that
                    self._complain(line.text)
        self._described.set()

    def _complain(self, text: str) -> None:
        """Remember an error, and print it if that is not done once the source has failed to open."""
        self._errors.append(text)
        now = time.monotonic()
        if self._opened and now >= self._silent_until:
            self._silent_until = now + SAID_EVERY
            print(f"camera: ffmpeg: {text}", file=sys.stderr, flush=True)

    def _note(self, text: str) -> None:
        if self.fps is None:
            self.fps, self.untimed = source_fps(text), is_untimed(text)
        if self.seconds is None:
            self.seconds = source_seconds(text)
        self._writes = self._writes or text.startswith("Output #0")
        if self._writes and (colours := written_colours(text)):
            self.colours = colours
            self._described.set()


def pictures_channel() -> tuple[socket.socket, socket.socket]:
    """Return the two ends on which pictures come from ffmpeg: the one to read, and ffmpeg's.

    Sockets, as they hold pictures in pieces of 32 KiB where a pipe does in pages of 4 KiB, and who reads does
    not wait for the same lock as who writes. Between processes that do nothing else, a picture of 1080p in
    colour takes 3.1 ms of a processor on its way to a consumer then, and 4.2 ms by a pipe.
    """
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WAITING_BYTES)  # or what is allowed
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, IN_ONE_CALL)
    return ours, theirs


def environment() -> dict[str, str]:
    """Return ffmpeg's environment: that of this process without the URL, which may hold credentials."""
    return {name: value for name, value in os.environ.items() if name != "source_url"}


def beginnings(stream: IO[bytes]) -> Iterator[bytes]:
    """Return each line as far as it is looked at."""
    begins = True
    while piece := stream.readline(LONGEST_LINE):
        if begins:
            yield piece
        begins = piece.endswith(b"\n")
