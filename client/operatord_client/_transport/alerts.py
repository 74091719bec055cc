# SPDX-License-Identifier: MIT
"""What a daemon says of a client's certificate by the alert with which it ends TLS.

With TLS 1.3 the client's handshake is over before the daemon has seen the certificate, so the alert comes
with the first bytes that are read.
"""

from __future__ import annotations

import ssl

WHERE = "--cert and --key, OPERATORD_CERT and OPERATORD_KEY, or Tls(cert=…, key=…)"
REQUIRED = f"the daemon wants a certificate of the client's here, and got none: {WHERE}"
REFUSED = {
    "TLSV1_ALERT_UNKNOWN_CA": "no authority that it knows has signed it",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is not one for clients",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is damaged, or not valid yet",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it cannot be checked",
}
"""Alerts (RFC 8446, section 6.2) under OpenSSL's names, and what they mean."""


def said_of_certificate(exc: OSError) -> str | None:
    """Return the daemon's alert as a sentence; None for every other end of a connection."""
    reason = exc.reason if isinstance(exc, ssl.SSLError) else ""
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return REQUIRED
    why = REFUSED.get(reason)
    return why and f"the daemon does not accept the client's certificate: {why} ({WHERE})"
