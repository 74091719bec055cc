# SPDX-License-Identifier: MIT
"""Who does it: the supervisor, sole owner of what lives, and its helpers."""
