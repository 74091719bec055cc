# SPDX-License-Identifier: MIT
"""What the emulators have in common. `make emulators` copies it to those that need it."""
