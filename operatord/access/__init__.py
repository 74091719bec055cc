# SPDX-License-Identifier: MIT
"""Who somebody is, and what that allows."""
