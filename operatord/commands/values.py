# SPDX-License-Identifier: MIT
"""Values of options: what reads them, and what is said of those that cannot be read."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def _reading(read: Callable[[str], T], expected: str) -> Callable[[str], T]:
    """Return what reads a value, and says what is expected of one that it cannot read."""

    def checked(text: str) -> T:
        with contextlib.suppress(ValueError):
            return read(text)
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return checked


def _up_to_an_hour(text: str) -> float:
    if not 0 <= (seconds := float(text)) <= 3600:
        raise ValueError(text)
    return seconds


seconds = _reading(_up_to_an_hour, "0 to 3600 seconds such as 10")
whole = _reading(int, "a whole number such as 100")
number = _reading(float, "a number such as 0.5")
