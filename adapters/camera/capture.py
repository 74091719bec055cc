# SPDX-License-Identifier: MIT
"""Read a source with decoders, one after the other: the next one when it drops, or begins anew."""

from __future__ import annotations

import sys
import threading
import time
from fractions import Fraction
from math import isqrt
from typing import Any

from camera_settings import BYTES_PER_PIXEL, CameraSettings
from colours import library
from decoder import Decoder
from ffmpeg_command import decoder_call
from handover import HEADROOM, Handover, Picture
from nut import NutError
from operatord_stage.pictures import PAYLOAD_LIMIT
from operatord_stage.stage import BROKEN_STREAM, NO_NEIGHBOUR, Fault
from pace import BackOff, Pace
from picture_reader import PictureReader

NO_MORE = (EOFError, NutError, TimeoutError)
"""How it shows that a decoder delivers no more."""
LEAST_PATIENCE = 2.0
"""Seconds for the last attempt to open a source, which may begin when the time is nearly over."""
ENDS_EARLY, ENDS_EARLY_SECONDS = 0.02, 1.0
"""Of what a recording says that it has: the part, and the seconds, by which its sound may be longer."""

MOST_REFUSALS = 2
"""Times in a row that a lost source may refuse its credentials. One may be a camera that begins; after a few
more, many cameras lock their user out."""


class Capture:
    """The pictures of a source, handed over in order until it has ended.

    The frames of a recording are given out at its own rate. A live source is opened again when it drops; the
    time of its frames then goes on by the clock of this machine.
    """

    def __init__(self, settings: CameraSettings, handover: Handover) -> None:
        self._settings, self._handover = settings, handover
        self._stopped = threading.Event()
        self._pace = None if settings.live or settings.fps == 0 else Pace(self._stopped)
        self._decoder = Decoder(settings.url)
        self._swscale = library() if settings.colours_later else None
        self._size = (0, 0)
        self._arrived = self._reconnects = 0
        self._last_time = self._last_at = 0.0  # of the last frame: its time, and when it came

    def open(self) -> dict[str, Any]:
        """Wait for the source's first picture; return the hello. Raises `Fault`."""
        settings = self._settings
        back_off = BackOff(self._stopped, settings.open_timeout)
        while not self._try_to_open(max(back_off.left(), LEAST_PATIENCE)):
            if (permanent := self._decoder.is_permanent()) or not back_off.wait():
                tried = "" if permanent else f" within {settings.open_timeout} s"
                why = f"{self._decoder.reason()}{self._decoder.advice()}"
                raise Fault(NO_NEIGHBOUR, f"cannot open {settings.url.shown}{tried}: {why}")
        self._size = self._stream.width, self._stream.height
        return self._hello()

    def run(self) -> None:
        """Read until the source has ended, or was closed. Raises `Fault` if it was lost."""
        try:
            more = True
            while more:
                before = self._arrived
                whole = self._play()
                more = not self._stopped.is_set() and self._go_on(whole, self._arrived > before)
        finally:
            self._handover.finish()

    def close(self) -> None:
        """End the decoder, and whatever waits."""
        self._stopped.set()
        self._handover.finish()
        self._decoder.close()

    def _hello(self) -> dict[str, Any]:
        """Return what the first picture and the decoder's words say. Raises `Fault`."""
        settings, (width, height) = self._settings, self._size
        size = width * height * BYTES_PER_PIXEL[settings.pixel_format]
        if size > PAYLOAD_LIMIT:
            limit = f"more than the {PAYLOAD_LIMIT} that a stage sends: {smaller(width, height, settings)}"
            raise Fault(NO_NEIGHBOUR, f"pictures of {width}×{height} have {size} bytes, {limit}")
        fps = self._source_fps() if settings.fps is None else settings.fps
        picture = {"width": width, "height": height, "format": settings.pixel_format}
        return {"type": "hello", "stream": "probe", **picture, "fps": plain_number(fps or 0)}

    def _source_fps(self) -> float | None:
        """Return the source's rate; None if it says none."""
        made_up = self._settings.is_web_camera and self._decoder.untimed
        return None if made_up else self._decoder.fps

    def _try_to_open(self, seconds: float) -> bool:
        """Start a decoder; tell whether its first picture comes within so many seconds."""
        call = decoder_call(self._settings, self._size, nearest=self._swscale is not None)
        self._decoder.start(call)
        try:
            self._stream = self._decoder.open(seconds)
        except NO_MORE as exc:
            self._decoder.end(exc)
            return False
        return True

    def _play(self) -> bool:
        """Hand the decoder's frames over until there are no more; tell whether that was a proper end."""
        self._stream.wait_for_frames(self._settings.stall_timeout if self._settings.live else None)
        pixel_format, colours = self._settings.pixel_format, self._decoder.colours
        pictures = PictureReader(self._stream, pixel_format, colours, self._swscale)
        try:
            self._play_to_end(pictures)
        except NO_MORE as exc:
            return self._decoder.end(exc)
        finally:
            pictures.close()
        return False

    def _play_to_end(self, pictures: PictureReader) -> None:
        offset = None if self._arrived else 0.0
        while not self._stopped.is_set():
            moment, size = self._stream.next_frame()
            if offset is None:
                offset = self._last_time + time.monotonic() - self._last_at - moment
            self._hand_over(moment + offset, size, pictures)

    def _hand_over(self, moment: float, size: int, pictures: PictureReader) -> None:
        buffer = self._handover.buffer(pictures.bytes)
        with memoryview(buffer) as view:
            pictures.read(size, view[HEADROOM:])
        if self._pace:
            self._pace.wait(moment)
        self._last_time, self._last_at = moment, time.monotonic()
        self._handover.put(Picture(buffer, self._arrived, moment))
        self._arrived += 1

    def _go_on(self, whole: bool, came: bool) -> bool:
        """Open the source again if it is to go on; return False if this was its end. Raises `Fault`."""
        if self._settings.live:
            return self._reconnect()
        if whole and not self._settings.loop:
            self._tell_if_cut()
            return False
        if whole and came and self._try_to_open(self._settings.open_timeout):
            return True  # a container that the decoder cannot wind back
        raise Fault(
            BROKEN_STREAM, f"{self._settings.url.shown} broke off: {self._decoder.reason()}"
        )

    def _tell_if_cut(self) -> None:
        """Say so if a recording has ended long before what its head promises: to ffmpeg it is whole."""
        said, came = self._decoder.seconds or 0.0, self._last_time
        if came < said * (1 - ENDS_EARLY) - ENDS_EARLY_SECONDS:
            say(
                f"{self._settings.url.shown} ends after {came:.1f} s, and says that it has {said:.1f} s: "
                "it may have been cut in copying"
            )

    def _reconnect(self) -> bool:
        """Open a lost source again; return False if this was closed meanwhile. Raises `Fault`."""
        shown, seconds = self._settings.url.shown, self._settings.reconnect_timeout
        why = self._decoder.reason()
        say(f"{shown} was lost ({why}) and is tried again for up to {seconds} s" if seconds else "")
        begun, back_off = time.monotonic(), BackOff(self._stopped, seconds)
        refused = 0
        while refused < MOST_REFUSALS and back_off.wait():
            if self._try_to_open(max(self._settings.stall_timeout, LEAST_PATIENCE)):
                self._reconnects += 1
                self._handover.count(reconnects=self._reconnects)
                say(f"{shown} is back after {time.monotonic() - begun:.1f} s")
                return True
            refused = refused + 1 if self._decoder.is_refused() else 0
            why = self._note_absence(why)
        if self._stopped.is_set():
            return False
        came = "refuses to be read" if refused else "did not come back"
        why = f"{self._decoder.reason()}{self._decoder.advice()}"
        raise Fault(BROKEN_STREAM, f"{shown} was lost, and {came}: {why}")

    def _note_absence(self, before: str) -> str:
        """Say why a lost source cannot be opened, if that is another reason than before; return it."""
        why = self._decoder.reason()
        if why != before and not self._stopped.is_set():
            say(f"{self._settings.url.shown} cannot be opened again yet: {why}")
        return why


def smaller(width: int, height: int, settings: CameraSettings) -> str:
    """Return what to set for pictures of this size that are too large: the largest ones that can be sent."""
    # One row less than there is room for, as the height of the scaled picture is rounded.
    room = PAYLOAD_LIMIT // BYTES_PER_PIXEL[settings.pixel_format] - width
    ways = [f"set width to {isqrt(room * width // height)} or less", "crop"]
    if settings.pixel_format != "gray8" and width * height <= PAYLOAD_LIMIT:
        ways.append("take gray8 as pixel_format")
    return ", or ".join(ways)


def say(sentence: str) -> None:
    """Print a sentence for people."""
    if sentence:
        print(f"camera: {sentence}", file=sys.stderr, flush=True)


def plain_number(value: float | Fraction) -> int | float:
    """Return a rate as JSON shows it best: whole if it is, and else with three digits."""
    return int(value) if value == int(value) else round(float(value), 3)
