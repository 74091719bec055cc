# SPDX-License-Identifier: MIT
"""This machine and its operating system: time, load, processes, devices, routes."""
