# SPDX-License-Identifier: MIT
"""What is done with a stage: a function for each trial, and the table of them (`table`)."""
