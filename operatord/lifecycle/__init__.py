# SPDX-License-Identifier: MIT
"""Sessions from a request to nothing, and what becomes of them when the engine or the daemon goes."""
