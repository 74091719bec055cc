# SPDX-License-Identifier: MIT
"""The composition root: the only place where the parts of operatord meet."""

from .assembly import Parts as Parts
from .daemon import Daemon as Daemon
