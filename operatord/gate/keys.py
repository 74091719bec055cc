# SPDX-License-Identifier: MIT
"""The tokens of streams: worked out from a key and the session's id, so that none is written down anywhere.

The journal has everything else of a session, and copies of it go to people who look for faults.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

log = logging.getLogger(__name__)

KEY = "stream-key"
"""In the state directory, for its owner alone."""
KEY_BYTES = 32


class StreamKey:
    """What tokens of this daemon's streams are worked out from; made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        """Keep it in the state directory."""
        self._path = directory / KEY
        self._key = b""

    def token(self, session_id: str) -> str:
        """Return the token of a session: 256 bits as 43 characters. Raises `OSError`."""
        if not self._key:
            self._key = _read(self._path) or _made(self._path)
        digest = hmac.digest(self._key, f"stream {session_id}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def keep(self) -> None:
        """Put it back if it was deleted: another key would open none of the streams that go on.

        Raises `OSError`.
        """
        if self._key and not self._path.exists():
            _write(self._path, self._key)
            log.warning(
                "the key of the streams' tokens was deleted, and is there again: %s", self._path
            )


def _read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        if len(key := path.read_bytes()) == KEY_BYTES:
            return key
        log.warning(
            "%s is damaged and made again: earlier tokens of streams are no longer valid", path
        )
    return b""


def _made(path: Path) -> bytes:
    """Return a new key, which is written down. Raises `OSError`."""
    key = secrets.token_bytes(KEY_BYTES)
    _write(path, key)
    return key


def _write(path: Path, key: bytes) -> None:
    """Write it down, whole or not at all. Raises `OSError`."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
