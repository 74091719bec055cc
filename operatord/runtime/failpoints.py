# SPDX-License-Identifier: MIT
"""Places at which the daemon can be made to die, to show that nothing is lost by it.

``OPERATORD_FAILPOINT=engine.create.after:3`` kills the daemon, as `kill -9` would, when it comes to that
place for the third time. Without the variable each place costs a comparison.
"""

from __future__ import annotations

import os
import signal

_name, _, _count = os.environ.get("OPERATORD_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def hit(name: str) -> None:
    """Die here if that is wanted."""
    global _left  # noqa: PLW0603  # one process dies once
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
