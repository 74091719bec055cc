# SPDX-License-Identifier: MIT
"""Sockets: admission of peers, turns, bytes into lines, lines out."""
