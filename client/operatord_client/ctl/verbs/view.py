# SPDX-License-Identifier: MIT
"""What `watch` shows of a session at one moment, however it is shown."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from typing import Any


class View:
    """What is shown: the session, the use of its stages, and the last events."""

    def __init__(self, session: dict[str, Any], stats: dict[str, Any], event: str) -> None:
        self.session = session
        self.stats = stats
        self.event = event

    @property
    def ended(self) -> bool:
        return bool(self.session["phase"] == "ended")

    @property
    def frames(self) -> int | None:
        """Frames that the last stage which reports any has sent."""
        reported = [s["frames"] for s in self.stats.values() if s.get("frames") is not None]
        known = self.session.get("frames")
        return known if known is not None else reported[-1] if reported else None
