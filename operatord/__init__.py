# SPDX-License-Identifier: MIT
"""operatord: the daemon that turns imaging probes into streams."""

__version__ = "0.1.0"
