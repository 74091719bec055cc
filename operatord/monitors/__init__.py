# SPDX-License-Identifier: MIT
"""Looks at sessions that run: how they end, what they use, whether anybody reads, whether they stall."""
