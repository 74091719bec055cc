# SPDX-License-Identifier: MIT
"""From when until when a certificate is valid, and what is said of it."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from certificates import Authority

from operatord.access.certificates import SOON, Validity, validity_of

DAY = 86400.0
LONG_AFTER_2049 = 40 * 365
"""Days: from 2050 on, the year has four digits."""


def by_openssl(file: Path) -> Validity:
    found = []
    for option in ("-startdate", "-enddate"):
        command = ["openssl", "x509", "-noout", option, "-in", str(file)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(float(ssl.cert_time_to_seconds(said.strip().partition("=")[2])))
    return Validity(*found)


@pytest.mark.parametrize("days", [1, 400, LONG_AFTER_2049, -1])
def test_it_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    cert, _ = Authority(tmp_path).sign("daemon", days=days)
    assert validity_of(cert) == by_openssl(cert)


def test_the_first_of_several_counts_whatever_stands_before_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("daemon", days=100)
    chain = tmp_path / "chain.pem"
    parts = [key, cert, authority.certificate]
    chain.write_bytes(b"a word\n" + b"".join(each.read_bytes() for each in parts))
    assert validity_of(chain) == by_openssl(cert)


def test_of_what_is_none_nothing_is_said(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).sign("daemon")
    assert validity_of(key) is None
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    broken = tmp_path / "broken.pem"
    for length in range(0, len(der), 7):
        broken.write_text(ssl.DER_cert_to_PEM_cert(der[:length]))
        validity_of(broken)  # whatever is left of it
    for at in range(min(len(der), 200)):
        broken.write_text(
            ssl.DER_cert_to_PEM_cert(der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :])
        )
        validity_of(broken)
    broken.write_text("-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n")
    assert validity_of(broken) is None


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (-1.0, "is not valid before 1970-01-01, and clients refuse it; is the clock right?"),
        (0.0, None),
        (100 * DAY - SOON - 1, None),
        (100 * DAY - SOON, "expires on 1970-04-11; renew it, then reload"),
        (100 * DAY - 1, "expires on 1970-04-11; renew it, then reload"),
        (100 * DAY, "has expired on 1970-04-11, and clients refuse it; renew it, then reload"),
    ],
)
def test_what_is_to_be_known(now: float, said: str | None) -> None:
    assert Validity(0.0, 100 * DAY).problem(now) == said
