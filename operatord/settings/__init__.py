# SPDX-License-Identifier: MIT
"""The settings: where they are read, what they mean, and what follows before the daemon is there."""
