# SPDX-License-Identifier: MIT
"""start --frames: receives the stream, counts frames and prints a summary, with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

from operatord_client.ctl import render
from operatord_client.ctl.context import Context
from operatord_client.ctl.exits import OK
from operatord_client.ctl.outlet import Outlet
from operatord_client.ctl.terminal import Ticker
from operatord_client.errors import DeadlineExceeded, NotFound, StreamError
from operatord_client.frames import FrameStream
from operatord_client.session import SETTLE_SECONDS, RunningSession
from operatord_protocol.messages import session_from_wire
from operatord_protocol.stream import Frame

from .sessions import GONE_WRONG
from .stalls import Stalls

BAR_WIDTH = 30
REDRAW_SECONDS = 0.1


class Sums:
    """What is kept of frames once they are gone."""

    def __init__(self, now: float) -> None:
        self.frames = 0
        self.bytes = 0
        self.dice = 0.0
        self.masks = 0
        self._since = now

    def add(self, frame: Frame) -> None:
        """Count a frame."""
        self.frames += 1
        self.bytes += sum(map(len, frame.payloads.values()))
        mask = frame.part("mask")
        if mask is not None and mask.dice is not None:
            self.dice += mask.dice
            self.masks += 1

    def summary(self, dropped: int, now: float) -> Summary:
        """Return the result at ``now``, in seconds of the clock that the sums began with."""
        seconds = max(now - self._since, 1e-9)
        dice = self.dice / self.masks if self.masks else None
        return Summary(self.frames, dropped, self.bytes, seconds, self.frames / seconds, dice)


class Summary(NamedTuple):
    """What came of a stream."""

    frames: int
    dropped: int
    bytes: int
    seconds: float
    fps: float
    mean_dice: float | None
    """None in a plain stream."""

    def text(self) -> str:
        """Return it for a person."""
        dice = None if self.mean_dice is None else f"{self.mean_dice:.4f}"
        return render.details(
            [
                ("received", f"{self.frames} frames, {render.size(self.bytes)}"),
                ("dropped", self.dropped),
                ("time", f"{self.seconds:.2f} s, {self.fps:.1f} frames/s"),
                ("mean dice", dice),
            ]
        )


def bar(done: int, total: int | None) -> str:
    """Return ``[#####     ] 50/100``; without a total, the number."""
    if not total:
        return f"{done} frames"
    filled = min(BAR_WIDTH, BAR_WIDTH * done // total)
    return f"[{'#' * filled:<{BAR_WIDTH}}] {done}/{total} frames"


def receive(ctx: Context, info: Mapping[str, Any], *, is_own: bool) -> int:
    """Take a session's stream to its end and print the summary.

    If the stream does not end, only this program's own session is stopped; any other lives as its lease says.
    A lease on the connection ends with it, and others may have the same session by its key. Of a session that
    has failed meanwhile its post-mortem is printed. Raises `StreamError`, and `BrokenPipeError` as soon as
    nobody reads what is printed.
    """
    session = RunningSession(ctx.client, session_from_wire(dict(info)))
    try:
        summary = _received(session, Stalls(ctx.client, session.id), is_own=is_own)
    except StreamError:
        if session.info.outcome in GONE_WRONG:
            with suppress(NotFound):  # it is forgotten
                ctx.answer("session.get", {"session_id": session.id}, render.session)
        raise
    ctx.show(summary._asdict(), lambda _: summary.text())
    return OK


def _received(session: RunningSession, stalls: Stalls, *, is_own: bool) -> Summary:
    with session if is_own else nullcontext():
        stream = session.frames()
        stream.before_read = Outlet(stream.fileno()).wait
        with stream, stalls:
            summary = take(stream)
        if not is_own:
            _see_to_its_end(session)
    return summary


def _see_to_its_end(session: RunningSession) -> None:
    """Wait for a session whose stream was delivered to end by that, rather than by our connection's lease."""
    with suppress(DeadlineExceeded, NotFound):  # others still read, or it is over and forgotten
        session.wait(timeout=SETTLE_SECONDS)


def take(stream: FrameStream) -> Summary:
    """Read a stream to its end. Raises `StreamError` when it is cut off."""
    count = stream.hello.count
    sums = Sums(time.monotonic())
    redraw = 0.0
    with Ticker() as ticker:
        for frame in stream:
            sums.add(frame)
            if ticker.on and (now := time.monotonic()) >= redraw:
                ticker.show(bar(sums.frames, count))
                redraw = now + REDRAW_SECONDS
    assert stream.end is not None
    return sums.summary(stream.end.dropped, time.monotonic())
