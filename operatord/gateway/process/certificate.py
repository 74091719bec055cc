# SPDX-License-Identifier: MIT
"""What TLS is spoken with, read again while connections are made."""

from __future__ import annotations

import logging
import ssl

log = logging.getLogger(__name__)


class Certificate:
    """A certificate in files, for a listener that goes on."""

    def __init__(self, cert: str, key: str, authorities: str | None) -> None:
        """Read the files; ``authorities`` have signed clients' certificates, if any. Raises `OSError`."""
        self._files = cert, key, authorities
        self._now = self.context = self._read()
        # Each handshake takes the newest, whether the client names a host or not.
        self.context.sni_callback = self._choose

    def _choose(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        handshake.context = self._now

    def reread(self) -> None:
        """Show from now on what is in the files now; if that cannot be read, what is shown stays."""
        try:
            self._now = self._read()
        except OSError as exc:
            log.error("the certificate for HTTP is not reread: %s", exc)

    def _read(self) -> ssl.SSLContext:
        """Return what TLS 1.2 or later is spoken with. Raises `OSError`."""
        cert, key, authorities = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert, key)
        if authorities is not None:
            context.load_verify_locations(authorities)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
