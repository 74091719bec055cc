# SPDX-License-Identifier: MIT
"""The control protocol: listening sockets, connections, the table of verbs."""
