# SPDX-License-Identifier: MIT
"""What is drawn on a terminal: the only modules that import rich."""
