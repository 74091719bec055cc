# SPDX-License-Identifier: MIT
"""What is told of a stream that cannot be read."""

from __future__ import annotations

from operatord_protocol.errors import ApplicationError


class StreamBroken(ApplicationError):
    """The session runs, and what is at its location is not there, cut off, or not understood."""

    code = 4
    type = "conflict"
