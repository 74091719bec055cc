# SPDX-License-Identifier: MIT
"""What would happen if: the daemon's own scheduler, driven by a trace and a clock that does not wait."""
