# SPDX-License-Identifier: MIT
"""The state directory: its identity, its lock, and what a person can do to it without a daemon."""
