# SPDX-License-Identifier: MIT
"""Addresses that deliver: headers read from them, registered probes, and the relay to some of them."""
