# SPDX-License-Identifier: MIT
"""Certificates of a test's own, made with openssl: of an authority, of engines, and of who may use them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from operatord.engines.docker_host.tls import Tls

_HERE = "IP:127.0.0.1,DNS:localhost"


class Authority:
    """Signs certificates; all of its files are in one folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        """Make its own certificate. Skips the test where there is no openssl."""
        if shutil.which("openssl") is None:
            pytest.skip("certificates are made with openssl, which is not there")
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.certificate = self.folder / "ca.pem"
        self._run(
            "req", "-x509", *self._new_key("ca"), "-out", str(self.certificate), "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def _new_key(self, name: str) -> list[str]:
        return [
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", str(self.folder / f"{name}-key.pem"), "-subj", f"/CN={name}",
        ]  # fmt: skip

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder)

    def sign(self, name: str, *, host: str = _HERE, days: int = 30) -> tuple[Path, Path]:
        """Return a certificate for hosts (subjectAltName), valid for so many days from now, and its key."""
        self._run("req", *self._new_key(name), "-out", f"{name}.csr")
        extensions = self.folder / f"{name}.ext"
        # Python 3.13 and later hold certificates to all of RFC 5280.
        extensions.write_text(f"subjectAltName={host}\nauthorityKeyIdentifier=keyid\n")
        sign = (
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
            "-out", f"{name}.pem", "-extfile", str(extensions),
        )  # fmt: skip
        try:
            self._run(*sign, "-days", str(days))
        except subprocess.CalledProcessError:  # OpenSSL 3.5 takes no negative days, 3.0 no dates
            if days >= 0:
                raise
            self._run(*sign, "-not_before", "20200101000000Z", "-not_after", "20200102000000Z")
        return self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"

    def client(self, name: str = "client", *, days: int = 2) -> Tls:
        """Return what a client of this authority's engines has."""
        return Tls(self.certificate, *self.sign(name, days=days))

    def docker_folder(self, tls: Tls) -> Path:
        """Return a folder with the client's files under docker's names."""
        folder = self.folder / "docker"
        folder.mkdir()
        for name, file in zip(("ca.pem", "cert.pem", "key.pem"), tls[:3], strict=True):
            shutil.copy(file, folder / name)
        return folder


def server_context(
    certificate: tuple[Path, Path], clients_of: Authority | None = None
) -> ssl.SSLContext:
    """Return what a server speaks TLS with; ``clients_of`` have to prove who they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients_of is not None:
        context.load_verify_locations(clients_of.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
