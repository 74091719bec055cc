# SPDX-License-Identifier: MIT
"""The gate: where other machines reach the streams, and what the daemon has to do with that."""
