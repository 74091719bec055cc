# SPDX-License-Identifier: MIT
"""When certificates are valid: Python's `ssl` loads them, and tells nobody but their peers."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

SOON = 14 * 86400.0
"""Seconds before its end from which on one is warned of: enough to have another one made."""
_BLOCK = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _LONG_TIME = 0x30, 0xA0, 0x17, 0x18
"""Tags of DER (X.690)."""
_BEFORE_VALIDITY = 3
"""Members before it: the serial number, the signature's algorithm, the issuer (RFC 5280, 4.1)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Validity(NamedTuple):
    """From when until when, in seconds since the epoch."""

    begins: float
    ends: float

    def problem(self, now: float) -> str | None:
        """Return what is to be known of a certificate ``now``, as the end of a sentence about it."""
        if now < self.begins:
            return f"is not valid before {_day(self.begins)}, and clients refuse it; is the clock right?"
        if now >= self.ends:
            return f"has expired on {_day(self.ends)}, and clients refuse it; renew it, then reload"
        if now >= self.ends - SOON:
            return f"expires on {_day(self.ends)}; renew it, then reload"
        return None


def validity_of(file: Path) -> Validity | None:
    """Return that of the first certificate in a file of PEM, which is the one that is shown.

    None if it cannot be told. Raises `OSError`.
    """
    if (found := _BLOCK.search(file.read_bytes())) is None:
        return None
    try:
        return _validity(base64.b64decode(found[1]))
    except (binascii.Error, IndexError, ValueError):
        return None


def _day(seconds: float) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d}"


def _validity(der: bytes) -> Validity:
    """Return that of a certificate. Raises `IndexError`, `ValueError` for what is none."""
    [(_, certificate), *_] = _members(der)
    [(_, signed), *_] = _members(certificate)
    members = [value for tag, value in _members(signed) if tag != _VERSION]
    begins, ends = (_seconds(*each) for each in _members(members[_BEFORE_VALIDITY]))
    return Validity(begins, ends)


def _members(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and contents of one value after the other."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:  # of so many bytes
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        yield tag, der[at : at + length]
        at += length


def _seconds(tag: int, text: bytes) -> float:
    """Return a moment as seconds since the epoch."""
    if tag not in (_UTC_TIME, _LONG_TIME):
        raise ValueError(tag)
    said = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits for the year, from 1950 on (RFC 5280, 4.1.2.5.1)
        said = f"{'19' if said >= '50' else '20'}{said}"
    moment = datetime.strptime(said, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    return (moment - _EPOCH).total_seconds()
