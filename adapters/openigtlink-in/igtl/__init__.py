# SPDX-License-Identifier: MIT
"""OpenIGTLink, as far as the adapters need it: messages as bytes, and where pictures lie."""
