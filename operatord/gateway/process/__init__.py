# SPDX-License-Identifier: MIT
"""The gateway as a process."""
