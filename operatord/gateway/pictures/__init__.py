# SPDX-License-Identifier: MIT
"""Pictures as bytes, without I/O: cut out of a stream, drawn, written for players and as PNG."""
