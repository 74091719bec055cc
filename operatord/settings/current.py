# SPDX-License-Identifier: MIT
"""The settings as they are now: one holder, in which a reload replaces them for everybody."""

from __future__ import annotations

from .config import Config


class CurrentSettings:
    """Handed to whoever goes by the settings; ``config`` is read anew each time."""

    __slots__ = ("config",)

    def __init__(self, config: Config) -> None:
        """Begin with ``config``."""
        self.config = config
