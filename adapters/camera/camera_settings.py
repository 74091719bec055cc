# SPDX-License-Identifier: MIT
"""What the environment says of a source, and of the pictures that are wanted of it."""

from __future__ import annotations

import contextlib
import os
import re
from fractions import Fraction
from typing import NamedTuple

from camera_url import CameraUrl, parse_url
from operatord_stage.stage import BAD_SETTING, Fault, choice, number, switch, text

BYTES_PER_PIXEL = {"gray8": 1, "gray16le": 2, "rgb24": 3}
"""The pixel formats that can be sent."""
MOST_FPS = 1000
"""Frames a second that can be asked for."""
LONGEST_SIDE = 16384
"""Pixels of a side that can be asked for."""
MOST_THREADS = 4
"""Threads that decode, unless more are asked for: a stage has processors for about as many."""


class Crop(NamedTuple):
    """A part of the source's picture, in pixels."""

    width: int
    height: int
    x: int
    y: int


class CameraSettings(NamedTuple):
    """What is wanted."""

    url: CameraUrl
    pixel_format: str
    width: int
    """In pixels; 0: as the height says, or as the source has it."""
    height: int
    crop: Crop | None
    fps: Fraction | None
    """Frames a second; None: as the source has them; 0: those of a recording as fast as they are read."""
    live: bool
    loop: bool
    transport: str
    tls_verify: bool
    threads: int
    """Of the decoder."""
    device_format: str
    device_size: str
    device_fps: str
    open_timeout: int
    """Seconds in which the source must open for the first time."""
    stall_timeout: int
    """Seconds without a frame after which a live source counts as lost."""
    reconnect_timeout: int
    """Seconds for which a lost source is tried again; 0: not at all."""

    @property
    def colours_later(self) -> bool:
        """Whether pictures may become rgb24 after decoding; if they are scaled, both is done at once."""
        return self.pixel_format == "rgb24" and not (self.width or self.height)

    @property
    def is_web_camera(self) -> bool:
        """Whether it comes live from a web server, perhaps as pictures without times, such as MJPEG."""
        return self.live and self.url.scheme in ("http", "https")


def read_settings() -> CameraSettings:
    """Read and check the environment. Raises `Fault`."""
    url = _url()
    live = choice("live", "auto", ("auto", "true", "false"))
    settings = CameraSettings(
        url=url,
        pixel_format=choice("pixel_format", "gray8", tuple(BYTES_PER_PIXEL)),
        width=number("width", 0, 0, LONGEST_SIDE),
        height=number("height", 0, 0, LONGEST_SIDE),
        crop=_crop(text("crop", "")),
        fps=_fps(text("fps", "")),
        live=url.is_live if live == "auto" else live == "true",
        loop=switch("loop", "false"),
        transport=choice("rtsp_transport", "tcp", ("tcp", "udp", "http")),
        tls_verify=switch("tls_verify", "true"),
        threads=number("threads", min(MOST_THREADS, len(os.sched_getaffinity(0))), 1, 64),
        device_format=_word("device_format", r"[a-z0-9_]{1,32}", "as yuyv422"),
        device_size=_word("device_size", r"[1-9]\d{0,4}x[1-9]\d{0,4}", "as 1280x720"),
        device_fps=_word("device_fps", r"[1-9]\d{0,3}(/[1-9]\d{0,3})?", "as 30, or 30000/1001"),
        open_timeout=number("connect_timeout", 30, 0, 86400),
        stall_timeout=number("stall_timeout", 10, 1, 3600),
        reconnect_timeout=number("reconnect_timeout", 300, 0, 31_536_000),
    )
    _reject_contradictions(settings)
    return settings


def _reject_contradictions(settings: CameraSettings) -> None:
    if settings.loop and (settings.live or settings.url.scheme != "file"):
        live = "is live and has no end: leave loop out" if settings.live else "is no file: address"
        raise Fault(BAD_SETTING, f"loop begins a recording anew; {settings.url.shown} {live}")
    if settings.fps == 0 and settings.live:
        raise Fault(BAD_SETTING, "fps=0 is for recordings: a live source has a rate of its own")


def _url() -> CameraUrl:
    if not (address := text("source_url", "")):
        raise Fault(BAD_SETTING, "source_url is missing: it says where the source is")
    try:
        return parse_url(address, text("source_shown", ""))
    except ValueError as exc:
        raise Fault(BAD_SETTING, str(exc)) from exc


def _crop(value: str) -> Crop | None:
    if not value:
        return None
    if re.fullmatch(r"[1-9]\d{0,4}:[1-9]\d{0,4}:\d{1,5}:\d{1,5}", value):
        return Crop(*map(int, value.split(":")))
    raise Fault(BAD_SETTING, f"crop must be WIDTH:HEIGHT:X:Y in whole pixels, not {value!r}")


def _fps(value: str) -> Fraction | None:
    if not value:
        return None
    with contextlib.suppress(ValueError, ZeroDivisionError):
        fps = Fraction(value).limit_denominator(1001)
        if 0 <= fps <= MOST_FPS:
            return fps
    raise Fault(
        BAD_SETTING,
        f"fps must be a number from 0 to {MOST_FPS}, as 25 or 30000/1001, not {value!r}",
    )


def _word(name: str, pattern: str, example: str) -> str:
    value = text(name, "")
    if not value or re.fullmatch(pattern, value):
        return value
    raise Fault(BAD_SETTING, f"{name} must be {example}, not {value!r}")
