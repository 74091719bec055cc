# SPDX-License-Identifier: MIT
"""The settings as they are now: one holder, in which a reload replaces them for everybody."""

from __future__ import annotations

from .config import Config


class CurrentSettings:
    """Handed to whoever goes by the settings; ``config`` is read anew each time."""

    __slots__ = ("config", "generation")

    def __init__(self, config: Config) -> None:
        """Begin with ``config``."""
        self.config = config
        self.generation = 1
        """How many settings there have been since the daemon's start, these included."""

    def replace(self, config: Config) -> None:
        """Go by ``config`` from now on."""
        self.config = config
        self.generation += 1
