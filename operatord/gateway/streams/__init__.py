# SPDX-License-Identifier: MIT
"""What carries pictures through the gateway: to browsers, to players, and one at a time."""
