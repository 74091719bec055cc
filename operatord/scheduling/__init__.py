# SPDX-License-Identifier: MIT
"""What the scheduler is told, what those who wait are told, and when sessions are to end."""
