# SPDX-License-Identifier: MIT
"""A stream on its way into a file; nothing in it is public."""
