# SPDX-License-Identifier: MIT
"""Stages of people's own: a function becomes a filter, a source or a sink."""
