# SPDX-License-Identifier: MIT
"""What may run. Pure: no I/O, no clock, no asyncio; time arrives as an argument."""
