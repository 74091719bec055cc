# SPDX-License-Identifier: MIT
"""The process of the gate: it imports nothing but the standard library and what is in this folder."""
