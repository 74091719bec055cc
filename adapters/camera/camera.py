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
    threads          of the decoder                                  (up to 4)
    tls_verify       False: take any certificate. Debian 12's ffmpeg checks those of https: only (True)
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
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading

import operatord_stage as stage
from camera_settings import read_settings
from capture import Capture
from feed import Feed
from handover import Handover


class Camera:
    """A source that is opened once its settings are there, and read by a thread."""

    def __init__(self) -> None:
        self.figures: dict[str, object] = {}
        self._capture: Capture | None = None

    def prepare(self) -> None:
        """Read the settings. Raises `Fault`."""
        self._settings = read_settings()
        if not self._settings.live:
            # Nothing of a recording is lost while nobody reads it.
            os.environ["unread"] = stage.text("unread", "hold")  # noqa: SIM112 - that is its name

    def open(self) -> Feed:
        """Wait for the source's first picture; return its frames. Raises `Fault`."""
        handover = Handover(self.figures, drops=self._settings.live)
        self._capture = Capture(self._settings, handover)
        feed = Feed(handover, self._capture.open())
        threading.Thread(target=read, args=(self._capture, feed), daemon=True).start()
        return feed

    def close(self) -> None:
        """End the decoder."""
        if self._capture:
            self._capture.close()


def read(capture: Capture, feed: Feed) -> None:
    """Read the source to its end."""
    try:
        capture.run()
    except stage.Fault as fault:
        feed.fault = fault


def load_ffmpeg() -> None:
    """Have ffmpeg's libraries in memory before a session begins: from a disk they take long."""
    with contextlib.suppress(OSError):
        subprocess.run(["ffmpeg", "-version"], stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    camera = Camera()
    if os.environ.get("OPERATORD_LATE_BIND") == "1":
        load_ffmpeg()
    stage.serve(
        camera.open,
        kind="source",
        prepare=camera.prepare,
        finish=camera.close,
        figures=camera.figures,
    )
