# SPDX-License-Identifier: MIT
"""Looks at what a URL names, before a session's adapter reads it."""
