# SPDX-License-Identifier: MIT
"""The process of the gate: it imports nothing but the standard library and what is in this folder."""

SOCKET = "gate.sock"
"""In the daemon's state directory: what the daemon speaks to it on."""
