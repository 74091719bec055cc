# SPDX-License-Identifier: MIT
"""The commands of `operatord`: the options of each, and what it does."""
