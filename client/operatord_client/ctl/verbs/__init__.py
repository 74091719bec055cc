# SPDX-License-Identifier: MIT
"""What each of operatorctl's commands does."""
