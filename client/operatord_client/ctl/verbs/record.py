# SPDX-License-Identifier: MIT
"""record: a session's stream into a file, with how far it is on standard error."""

from __future__ import annotations

import sys
import time

from operatord_client.ctl import render, terminal
from operatord_client.ctl.context import Context
from operatord_client.ctl.exits import OK, Refused

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Protocol

    from operatord_client.options import Recorded, RecordPath
    from operatord_client.session import RunningSession

    class Gauge(Protocol):
        """Where it is shown how far a recording is."""

        def __enter__(self) -> object: ...
        def __exit__(self, *exc_info: object) -> None: ...
        def show(self, so_far: Recorded) -> None:
            """Show it."""


STANDARD_OUTPUT = "-"
REDRAW_SECONDS = 0.1


def record(ctx: Context, args: Namespace) -> int:
    """Write the stream of a session to a file, and print what was written."""
    from .stalls import Stalls  # noqa: PLC0415 - not for --help

    target = _target(args.file)
    session = ctx.client.attach(ctx.session_id(args.id))
    recording = _Recording(ctx, args.file)
    try:
        with Stalls(ctx.client, session.id), (gauge := _gauge()):
            recording.run(session, target, gauge, args)
    except KeyboardInterrupt:
        recording.tell()
        raise
    recording.tell()
    return OK


def _target(file: str) -> RecordPath:
    """Return where it is written. Raises `Refused` for none, and for a terminal, which would show rubbish."""
    if not file:
        raise Refused("the name of the file is empty: name one, or - for standard output")
    if file != STANDARD_OUTPUT:
        return file
    if sys.stdout is None:
        raise terminal.OutputFailed("standard output is closed")
    if sys.stdout.isatty():
        raise Refused("a stream is not text for a terminal: name a file, or pipe the output")
    return sys.stdout.buffer


class _Recording:
    """What is known of one recording, and what is said of it."""

    def __init__(self, ctx: Context, file: str) -> None:
        self._ctx = ctx
        self._file = file
        self._so_far: Recorded | None = None
        self._redraw = 0.0

    def run(
        self, session: RunningSession, target: RecordPath, gauge: Gauge, args: Namespace
    ) -> None:
        """Record. Raises as `RunningSession.record`, but says of errors of the file what to do."""
        from operatord_client.errors import StreamError  # noqa: PLC0415 - not for --help

        def note(so_far: Recorded) -> None:
            self._so_far = so_far
            if (now := time.monotonic()) >= self._redraw:
                gauge.show(so_far)
                self._redraw = now + REDRAW_SECONDS

        if session.info.phase in ("queued", "starting"):
            terminal.note(
                f"{session.id} is {session.info.phase}; the recording begins with its stream"
            )
        options: dict[str, Any] = {
            "format": args.format,
            "frames": args.most,
            "seconds": args.until,
            "fps": args.fps,
        }
        try:
            self._so_far = session.record(target, on_progress=note, overwrite=args.force, **options)
        except FileExistsError as exc:
            hint = "name another one, or overwrite it with --force"
            raise Refused(f"there is a file {self._file} already: {hint}") from exc
        except BrokenPipeError:
            raise
        except OSError as exc:
            what = f"{self._file} cannot be written: {exc.strerror}"
            raise terminal.OutputFailed(what + self._kept()) from exc
        except StreamError as exc:
            raise Refused(f"{exc}{self._kept()}") from exc

    def _kept(self) -> str:
        """Return what is in the file all the same."""
        if self._so_far is None or not self._so_far.frames:
            return ""
        return f"; the {self._so_far.frames} frames before are whole, and are kept"

    def tell(self) -> None:
        """Print what was written; to standard error where the stream itself is on standard output."""
        if self._so_far is None:
            return
        result = self._so_far._asdict()
        if self._file != STANDARD_OUTPUT:
            self._ctx.show(result, lambda _: self._text())
        else:
            terminal.note(self._text())

    def _text(self) -> str:
        found = self._so_far
        assert found is not None
        rate = found.frames / found.seconds if found.seconds else 0.0
        return render.details(
            [
                ("recorded", f"{found.frames} frames, {render.size(found.bytes)}"),
                ("missing", found.dropped or None),
                ("time", f"{found.seconds:.2f} s, {rate:.1f} frames/s"),
                ("rate", self._rate()),
                ("end", "the stream's own" if found.ended else "stopped before the stream's"),
            ]
        )

    def _rate(self) -> str | None:
        """Return what players are told although the stream says no rate, as a scanner's may not."""
        fps = self._so_far.assumed_fps if self._so_far else None
        said = "for players; the stream says none, and --fps another"
        return None if fps is None else f"{fps:g} frames/s {said}"


def _gauge() -> Gauge:
    """Return what shows how far it is: on a terminal, with rich where that is installed."""
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            from .drawing.record import RecordBar  # noqa: PLC0415 - it imports rich
        except ImportError:
            return TickerGauge()
        return RecordBar()
    return TickerGauge()


class TickerGauge:
    """One line of a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        self._ticker = terminal.Ticker()

    def __enter__(self) -> TickerGauge:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ticker.__exit__(*exc_info)

    def show(self, so_far: Recorded) -> None:
        """Write over what was there."""
        if self._ticker.on:
            from .receive import bar  # noqa: PLC0415 - it imports the stream format

            text = bar(so_far.frames, so_far.expected)
            self._ticker.show(f"{text}  {render.size(so_far.bytes)}")
