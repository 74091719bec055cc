# SPDX-License-Identifier: MIT
"""What both clients stand on: connections, the protocol without I/O, locks. Nothing in here is public."""
