# SPDX-License-Identifier: MIT
"""The emulators: a Dockerfile and one script per stage, package data that nothing imports."""
