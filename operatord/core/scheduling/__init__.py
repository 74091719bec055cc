# SPDX-License-Identifier: MIT
"""Who may start: `scheduler.decide`, the books it keeps, and what can be said of those who wait."""
