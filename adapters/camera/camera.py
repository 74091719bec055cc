#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Serve a camera, a device or a recording as a stream, decoded by ffmpeg.

Settings, all from the environment:

    source_url       where the source is: rtsp: and rtsps:, http: and https: (MJPEG, or a recording),
                     file:/PATH, v4l2:/dev/video0; %XX stands for other characters
    probe_ip         name or address to listen on                    (0.0.0.0)
    probe_port       port to listen on, 0 for any free one           (12345)
    pixel_format     gray8, gray16le or rgb24                        (gray8)
    crop             W:H:X:Y, the part of the picture that is wanted, in the source's pixels
    width, height    pixels to scale to, one of them for the same proportions   (the source's)
    fps              frames a second, made by leaving out or repeating; 0: those of a recording
                     as fast as they are read                        (the source's)
    live             True: always read; who is slow misses frames. False: a recording, that waits
                     to be read, and ends. auto: False for files, and for addresses at web servers
                     that end as a file's name does                  (auto)
    loop             True: begin a recording of file: anew at its end    (False)
    rtsp_transport   tcp, udp, or http                               (tcp)
    tls_verify       False: for https:, take any certificate. For rtsps: ffmpeg checks none (True)
    device_format, device_size, device_fps
                     what is asked of a v4l2 device, as mjpeg, 1280x720, 30   (what it does anyway)
    connect_timeout  seconds for the source to open                  (30)
    stall_timeout    seconds without a frame after which a live source is lost   (10)
    reconnect_timeout   seconds for which a lost one is tried again  (300)
    count            frames after which to end                       (as many as there are)

`pts` are the source's own time stamps, from the first frame on. A live source that drops is opened
again after 0.25 s, and then after pauses that double, up to 8 s; its size stays what it was. Reports
say how often that was (`reconnects`), and how many frames were not taken in time (`source_dropped`).
Sentences never show user, password or query of a URL.

Who reads from it is as with any stage:

"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from camera_settings import read_settings
from capture import Capture
from feed import Feed
from operatord_stage.relay import Relay
from operatord_stage.sockets import listen, resolve
from operatord_stage.source import Frame
from operatord_stage.stage import Fault, run, text
from operatord_stage.terms import TERMS_HELP, Settings, Terms
from pictures import Handover


def rehearse() -> None:
    """Do once what a session begins with."""
    resolve("localhost", 0)


def serve(last_words: list[Callable[[], None]]) -> None:
    """Serve the source to its end."""
    wanted, name = read_settings(), text("OPERATORD_STAGE", "probe")
    settings = Settings(("source", 1), (name, 12345))
    if not (wanted.live or settings.unread):
        settings.unread = "hold"  # nothing of a recording is lost while nobody reads it
    listener = listen(name, settings.host, settings.port, settings.connect_timeout)
    handover = Handover(drops=wanted.live)
    capture = Capture(wanted, handover)
    last_words.append(capture.close)
    feed = Feed(handover, capture.open())
    relay = Relay(feed, listener, Terms(name, settings, feed.hello), passed_on)
    relay.reports.figures = handover.figures
    threading.Thread(target=_read, args=(capture, feed), daemon=True).start()
    try:
        relay.run(last_words)
    finally:
        capture.close()


def passed_on(view: memoryview, frame: Frame) -> memoryview:
    """Return what consumers are sent for a frame."""
    return view[frame.start : frame.stop]


def _read(capture: Capture, feed: Feed) -> None:
    try:
        capture.run()
    except Fault as fault:
        feed.fault = fault


if __name__ == "__main__":
    sys.exit(run("camera", __doc__ + TERMS_HELP, serve, rehearse))
