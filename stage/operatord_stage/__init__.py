# SPDX-License-Identifier: MIT
"""What a stage needs besides its own work; `make emulators` copies it to the emulators."""
