# SPDX-License-Identifier: MIT
"""What follows from what was seen: a pure function for each check."""
