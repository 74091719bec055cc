# SPDX-License-Identifier: MIT
"""Whether the engine is there, is ours, and what it can do."""
