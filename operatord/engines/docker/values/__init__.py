# SPDX-License-Identifier: MIT
"""Parts of what an engine is asked for, or answers, as plain values. No I/O."""
