# SPDX-License-Identifier: MIT
"""Who asks: listening sockets, connections, the table of verbs."""
