# SPDX-License-Identifier: MIT
"""The state directory: whose it is, who may use it, and what a person can do to it without a daemon."""
