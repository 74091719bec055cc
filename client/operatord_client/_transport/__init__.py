# SPDX-License-Identifier: MIT
"""Shared by both clients: connections, the protocol without I/O, locks. Nothing in here is public."""
