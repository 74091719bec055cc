# SPDX-License-Identifier: MIT
"""Progress of a wait in separate lines, where standard error is no terminal and a line cannot be
overwritten."""

from __future__ import annotations

import threading

from operatord_client.ctl import terminal

QUIET_SECONDS = 2.0
"""Seconds before the first such line …"""
BETWEEN_SECONDS = 10.0
"""… and between further ones, so as not to flood a log."""


class Bulletins:
    """Writes a few lines during a long wait, and none during a short one."""

    def __init__(self) -> None:
        self._topic: object = None
        self._text = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Bulletins:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def show(self, text: str, topic: object) -> None:
        """Have ``text`` said when it is time, unless the last line had the same ``topic``."""
        self._text, self._topic = text, topic

    def _run(self) -> None:
        said: object = None
        pause = QUIET_SECONDS
        while not self._over.wait(pause):
            if self._topic != said:
                said = self._topic
                terminal.note(self._text)
                pause = BETWEEN_SECONDS
