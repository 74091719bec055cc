# SPDX-License-Identifier: MIT
"""A source whose frames a generator makes: one stream for all consumers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping

from operatord_stage.serving.calling import failure, left
from operatord_stage.serving.frame import Frame
from operatord_stage.serving.results import shown
from operatord_stage.source import Extent
from operatord_stage.stage import Fault, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from operatord_stage.serving.results import Results

CLOSING = 1.0
"""Seconds that a generator has at the end, for what is behind its `yield`."""


class Generated:
    """The frames of a generator, as a relay reads them (`operatord_stage.source.Upstream`).

    The generator runs in a thread, one frame ahead of what is read: so while it waits for a camera, or
    calculates, consumers are served, and while nobody wants a frame, it is not asked for one.
    """

    def __init__(self, frames: Iterator[object], hello: dict[str, Any], results: Results) -> None:
        """Begin to make the first frame. The results check what is yielded."""
        self.hello, self.ended, self.dropped = hello, False, 0
        self.view = memoryview(b"")
        self.sock, self._bell = (
            socket.socketpair()
        )  # a byte when a frame is ready; closed at the end
        self._frames, self._results = frames, results
        self._ready: tuple[memoryview, Extent] | None = None
        self._taken = threading.Event()
        self._stopped = False
        self._fault: Fault | None = None
        self._thread = threading.Thread(target=self._make_all, daemon=True)
        self._thread.start()

    def read(self) -> list[Extent]:
        """Return the frame that is ready. Raises `Fault` for what went wrong in the generator."""
        if self.sock.recv(1):
            assert self._ready is not None
            self.view, frame = self._ready
            self._taken.set()
            return [frame]
        if self._fault is not None:
            raise self._fault
        self.ended = True
        return []

    def ask_for_frames(self, wanted: bool) -> None:
        """Do nothing: it is asked by reading."""

    def stop(self) -> None:
        """Have the generator run what is behind its `yield` (`finally`), as far as it gets soon."""
        self._stopped = True
        self._taken.set()
        self._thread.join(CLOSING)

    def _make_all(self) -> None:
        try:
            self._hand_over_all()
            if close := getattr(self._frames, "close", None):
                close()
        except Fault as fault:
            self._fault = fault
        except Exception as exc:
            self._fault = failure(self._results.name, exc)
        except SystemExit as exc:  # it ends this thread alone, and nobody would hear of it
            self._fault = left(self._results.name, exc, "where a source ends its stream by return")
        self._bell.close()

    def _hand_over_all(self) -> None:
        begun: float | None = None
        for seq, made in enumerate(self._frames):
            now = time.monotonic()
            begun = begun or now
            self._ready = self._written(made, seq, round(now - begun, 6))
            self._taken.clear()
            with contextlib.suppress(OSError):  # the relay is done
                self._bell.send(b"\0")
            self._taken.wait()
            if self._stopped:
                return

    def _written(self, made: object, seq: int, pts: float) -> tuple[memoryview, Extent]:
        """Return a frame that was yielded as the stream format has it."""
        header, parts = self._results.made(self._frame(made, seq), seq, pts)
        line = encode(header)
        block = memoryview(b"".join((line, *parts.values())))
        image = len(line)
        for name, content in parts.items():
            if name == "image":
                break
            image += len(content)
        return block, Extent(0, len(line), image, image + len(parts["image"]), len(block))

    def _frame(self, made: object, seq: int) -> Frame:
        if isinstance(made, Frame):
            return made
        if isinstance(made, Mapping):
            return Frame(made.get("image", b""), parts=made)
        try:
            return Frame(memoryview(made))  # type: ignore[arg-type]
        except TypeError:
            raise self._results.wrong(
                seq,
                f"{shown(made)}: it must be a picture as bytes or an array, a dict of parts, or a Frame",
            ) from None
