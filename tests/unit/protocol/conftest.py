# SPDX-License-Identifier: MIT
"""Property tests here are judged by what they find, never by how fast a busy machine is."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
