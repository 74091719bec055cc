# SPDX-License-Identifier: MIT
"""One session, and all that is known of it: in memory, as a row, in its last words."""
