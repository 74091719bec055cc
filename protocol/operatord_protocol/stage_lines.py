# SPDX-License-Identifier: MIT
"""What a stage writes for the daemon, between what it writes for people."""

from __future__ import annotations

import json
from typing import Any

TO_DAEMON = ("waiting", "listening", "report")
"""By the ``type`` of the object that such a line is."""


def is_for_people(line: str) -> bool:
    """Tell whether a stage's line is none of those with which it speaks to the daemon."""
    if not line.startswith("{"):
        return True
    try:
        said: Any = json.loads(line, parse_int=str, parse_float=str)  # as long as they may be
    except (ValueError, RecursionError):
        return True
    return not isinstance(said, dict) or said.get("type") not in TO_DAEMON
