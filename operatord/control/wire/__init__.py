# SPDX-License-Identifier: MIT
"""Sockets: who is let in, whose turn it is, bytes into lines, lines out."""
