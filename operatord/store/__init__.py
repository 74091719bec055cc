# SPDX-License-Identifier: MIT
"""What outlives the daemon: the journal, and the events that are replayed from it."""
