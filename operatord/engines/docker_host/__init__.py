# SPDX-License-Identifier: MIT
"""Which container engine is meant, and the way to it: addresses, contexts, TLS, ssh, versions."""
