# SPDX-License-Identifier: MIT
"""For the tests that let something die: where their helpers are."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "acceptance"))  # docker_lab
