# SPDX-License-Identifier: MIT
"""Imports requests without what guesses the encoding of text: 2.4 MiB, and the engine's answers are JSON.

To be imported before docker-py. Whoever imports that library afterwards gets it.
"""

from __future__ import annotations

import sys
from types import ModuleType

NAME = "charset_normalizer"


def _import() -> None:
    stand_in = ModuleType(NAME)
    vars(stand_in).update(__version__="3.0.0", detect=lambda text: {"encoding": "utf-8"})
    sys.modules[NAME] = stand_in
    try:
        import requests  # noqa: F401, PLC0415
    finally:
        del sys.modules[NAME]


if "requests" not in sys.modules and NAME not in sys.modules:
    _import()
