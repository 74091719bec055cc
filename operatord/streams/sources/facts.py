# SPDX-License-Identifier: MIT
"""What a server says of its pictures, within the bounds that a stream's hello has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST_WORD = 64
MOST_PIXELS = 65536
"""Of a row or a column."""
MOST_FPS = 1e6


def bounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that can be true; others are as if the server had not said them."""
    return {name: value for name, value in facts.items() if _possible(name, value)}


def _possible(name: str, value: Any) -> bool:
    if name in ("width", "height"):
        return 1 <= int(value) <= MOST_PIXELS
    if name == "fps":
        return 0 <= float(value) <= MOST_FPS
    return 1 <= len(value) <= LONGEST_WORD and str(value).isprintable()
