# SPDX-License-Identifier: MIT
"""Local processes behind `engines.base`."""
