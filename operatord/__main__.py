# SPDX-License-Identifier: MIT
"""``python -m operatord`` is ``operatord``."""

import sys

from .cli import main

sys.exit(main())
