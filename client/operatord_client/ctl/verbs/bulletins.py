# SPDX-License-Identifier: MIT
"""What is waited for, said in lines: where standard error is no terminal, a line cannot be written over."""

from __future__ import annotations

import threading

from operatord_client.ctl import terminal

QUIET_SECONDS = 2.0
"""For so long a program that waits says nothing to whoever cannot be shown a line that changes …"""
BETWEEN_SECONDS = 10.0
"""… and then no more often than this: a log is not to be flooded."""


class Bulletins:
    """Few lines on what is waited for, and none where that is quick."""

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
