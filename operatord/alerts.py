# SPDX-License-Identifier: MIT
"""The alert by which TLS says what was wrong with a handshake, such as that a certificate is missing: asyncio
closes without it, up to Python 3.14 at least.
"""

from __future__ import annotations

import ssl
from asyncio.sslproto import SSLProtocol
from typing import Any

_protocol: Any = SSLProtocol
_after_handshake = _protocol._on_handshake_complete


def _say_why_not(self: Any, failed: BaseException | None) -> None:
    if isinstance(failed, ssl.SSLError):
        self._process_outgoing()
    _after_handshake(self, failed)
    del failed  # its traceback leads here, and would be held in a circle


def send_alerts() -> None:
    """Have all connections of this process send it from now on. Idempotent."""
    _protocol._on_handshake_complete = _say_why_not
