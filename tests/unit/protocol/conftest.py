# SPDX-License-Identifier: MIT
"""Puts this folder, with its helpers, on the path of the tests in the folders below."""
