# SPDX-License-Identifier: MIT
"""Probes that are given as a URL: what a URL says, where it may lead, and the adapters that read it."""
