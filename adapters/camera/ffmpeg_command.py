# SPDX-License-Identifier: MIT
"""How ffmpeg is called: its arguments, and what it reads on its standard input. Without I/O.

Frames with their times. ffmpeg writes NUT with raw pictures to its standard output. Of the ways to learn each
frame's time stamp, this is the cheapest that cannot get out of step, and needs nothing to be known before:

* NUT has the size of the pictures in its head and a time stamp of full precision before each frame, in
  about thirty bytes. So one stream says it all, in order, whatever the source does: loops, other rates, lost
  packets.
* `metadata=print` and `showinfo` write the times to a second stream. That costs as little, but it says
  nothing of the size, which ffprobe would have to find out: by a second connection, which some cameras
  refuse, and before rotation, cropping and scaling. `showinfo` writes among ffmpeg's messages.
* Matroska has times in whole milliseconds, and YUV4MPEG2 has none and no RGB.

`fps_mode passthrough` keeps ffmpeg from making or dropping frames to suit a rate, and `enc_time_base` from
rounding the times to it.

URLs with credentials. Everybody on a machine can read the arguments of its processes. So what a network
brings is named in a list for ffmpeg's `concat`, of one entry, which goes through standard input, together
with the options for opening it. One of them says what that entry may be: no other list, which a server could
answer with.
"""

from __future__ import annotations

from typing import NamedTuple

from camera_settings import CameraSettings
from colours import FORMATS

TIME_BASE = 90_000
"""Ticks of a time stamp in a second: those of RTP and MPEG; frame rates in use come out even."""
PIXEL_FORMATS = {"gray8": "gray", "gray16le": "gray16le", "rgb24": "rgb24"}
"""ffmpeg's names."""
NEAREST = "|".join((*FORMATS, "rgb24"))
"""Of what can be made rgb24 later, ffmpeg writes what loses least of the source."""

PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp,udp,http",
    "rtsps": "rtsp,rtsps,rtp,srtp,tcp,tls,udp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "file": "file",
}
"""What ffmpeg may open for a source, so that its bytes cannot make it open anything else."""
CONTAINERS = (
    "avi,asf,flv,gif,h264,hevc,image2,jpeg_pipe,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mpjpeg,nut,"
    "ogg,png_pipe,webm,yuv4mpegpipe"
)
"""What a web server's answer and a file may be: no playlists, which name other addresses."""
MOST_PIXELS = 1 << 26
"""Pixels of a picture that is decoded, as 8192 x 8192: a few bytes can be a picture of gigabytes."""

UNTIMED = ("1/25", "1/1200000")
"""Seconds of the ticks in which ffmpeg counts pictures that come without times, as MJPEG over HTTP does: it
makes up 25 a second."""
ARRIVAL_TICK = "1/1000000"
"""Seconds of the ticks in which their arrival is told instead."""


class Call(NamedTuple):
    """How ffmpeg is called."""

    arguments: tuple[str, ...]
    listing: bytes
    """What it reads on standard input."""


def decoder_call(
    settings: CameraSettings, size: tuple[int, int] = (0, 0), *, nearest: bool = False
) -> Call:
    """Return how ffmpeg is called to write NUT to its standard output.

    Args:
        settings: what is wanted.
        size: width and height in pixels that the stream has already; 0 for a first call.
        nearest: whether pictures for rgb24 may come as they are decoded.
    """
    arguments = ["ffmpeg", "-hide_banner", "-nostats", "-nostdin", "-loglevel", "level+info"]
    pixels = NEAREST if nearest else PIXEL_FORMATS[settings.pixel_format]
    filters = [*_filters(settings, size), f"format={pixels}"]
    arguments += [*_input(settings), *_output(filters)]
    return Call(tuple(arguments), _listing(settings) if settings.url.is_network else b"")


def _input(settings: CameraSettings) -> list[str]:
    # Threads that each decode a frame of their own hand it out only when all of them are busy.
    prompt = ["-threads", str(settings.threads), *(["-thread_type", "slice"] * settings.live)]
    prompt += ["-max_pixels", str(MOST_PIXELS)]
    scheme, target = settings.url.scheme, settings.url.target
    if scheme == "v4l2":
        return [*prompt, "-f", "v4l2", *_device(settings), "-i", target]
    if scheme == "file":
        again = ["-stream_loop", "-1"] * settings.loop
        return [*prompt, *_options(_allowed(settings)), *again, "-i", target]
    listing = _options({"protocol_whitelist": "pipe", "format_whitelist": "concat"})
    return [*prompt, *listing, "-f", "concat", "-safe", "0", "-i", "pipe:0"]


def _options(values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in (f"-{name}", value)]


def _allowed(settings: CameraSettings) -> dict[str, str]:
    """Return the options that say what a source may be, and what may be opened for it."""
    scheme, target = settings.url.scheme, settings.url.target
    containers = "rtsp" if scheme in ("rtsp", "rtsps") else CONTAINERS
    if scheme == "file" and "%" in target:
        # To `image2` that is a pattern: it would open other files than the one that was asked for.
        containers = containers.replace("image2,", "")
    return {"protocol_whitelist": PROTOCOLS[scheme], "format_whitelist": containers}


def _device(settings: CameraSettings) -> list[str]:
    wanted = {
        "input_format": settings.device_format,
        "video_size": settings.device_size,
        "framerate": settings.device_fps,
    }
    return _options({name: value for name, value in wanted.items() if value})


def _listing(settings: CameraSettings) -> bytes:
    """Return the list for `concat`: the URL has neither line ends nor spaces."""
    quoted = settings.url.target.replace("'", r"'\''")
    lines = ["ffconcat version 1.0", f"file '{quoted}'"]
    lines += [f"option {name} {value}" for name, value in _opening(settings).items()]
    return "\n".join([*lines, ""]).encode()


def _opening(settings: CameraSettings) -> dict[str, str]:
    """Return the options for opening a URL; times in microseconds."""
    patience = str(settings.stall_timeout * 1_000_000)
    options = {"timeout": patience, **_allowed(settings)}
    if settings.live:
        # Of the twenty frames for which ffmpeg would wait, the first three tell the rate.
        options["fpsprobesize"] = "3"
    if settings.url.scheme in ("rtsp", "rtsps"):
        options["rtsp_transport"] = settings.transport
    if settings.url.scheme in ("https", "rtsps"):  # for rtsps, Debian 12's ffmpeg passes it over
        options["tls_verify"] = str(int(settings.tls_verify))
    return options


def _output(filters: list[str]) -> list[str]:
    return [
        # One thread: as many as there are processors gain nothing here, and a container has few.
        *("-map", "0:v:0", "-filter_threads", "1", "-vf", ",".join(filters)),
        *("-fps_mode", "passthrough", "-enc_time_base", f"1:{TIME_BASE}"),
        # One thread here, too: with more, the copying of each picture is left to one of them, and the picture
        # is written when the next one or two have come.
        *("-c:v", "rawvideo", "-threads:v", "1", "-f", "nut", "-flush_packets", "1", "pipe:1"),
    ]


def _filters(settings: CameraSettings, size: tuple[int, int]) -> list[str]:
    """Return what becomes of a picture, in order: fewer frames and pixels first, then what costs more."""
    chain = _arrival(settings.stall_timeout) if settings.is_web_camera else []
    if settings.fps:
        chain.append(f"fps={settings.fps}")
    if settings.crop:
        width, height, x, y = settings.crop
        chain.append(f"crop={width}:{height}:{x}:{y}:exact=1")
    if scale := _scale(settings, size):
        chain.append(f"scale={scale}")
    return chain


def _arrival(longest: int) -> list[str]:
    """Return filters that give pictures without times those of their arrival, and leave others alone.

    The machine's clock may be set meanwhile: no step between two pictures is negative, or longer than so many
    seconds, after which the source would count as lost. `use_wallclock_as_timestamps` of the demuxer
    would round the times to the ticks that are made up.
    """
    untimed = "+".join(f"eq(intb,{tick})" for tick in UNTIMED)
    now = "st(1,time(0)*1000000)"
    step = f"clip(ld(1)-ld(0),0,{longest * 1_000_000})"
    arrived = f"{now};st(2,if(isnan(PREV_OUTPTS),ld(1),PREV_OUTPTS+{step}));st(0,ld(1));ld(2)"
    return [
        f"settb='if({untimed},{ARRIVAL_TICK},intb)'",
        f"setpts='if(eq(TB,{ARRIVAL_TICK}),{arrived},PTS)'",
    ]


def _scale(settings: CameraSettings, size: tuple[int, int]) -> str:
    width, height = size if any(size) else (settings.width, settings.height)
    return f"{width or -1}:{height or -1}" if width or height else ""
