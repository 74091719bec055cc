# SPDX-License-Identifier: MIT
"""Holds the current settings; a reload replaces them here for all users."""

from __future__ import annotations

from .config import Config


class CurrentSettings:
    """Passed to all users of the settings, who read ``config`` each time."""

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
