# SPDX-License-Identifier: MIT
"""An OpenSSH server of a test's own, with its own port and keys, and the home of who may log in."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from shared_host import free_port

PROGRAM = "/usr/sbin/sshd"  # it has to be called by its whole path
CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""


class Sshd(NamedTuple):
    """Where it is, and what there is to be damaged."""

    url: str
    folder: Path

    @property
    def authorized(self) -> Path:
        return self.folder / "authorized"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "home" / ".ssh" / "known_hosts"


def _make_key(file: Path) -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file.with_suffix(".pub").read_text()


@contextlib.contextmanager
def ssh_server(folder: Path, *lines: str) -> Iterator[Sshd]:
    """Run one whose configuration has these lines as well; skip the test where that cannot be."""
    if not Path(PROGRAM).exists() or shutil.which("ssh-keygen") is None or os.geteuid() != 0:
        pytest.skip("an ssh server of its own needs root and OpenSSH's server (openssh-server)")
    Path("/run/sshd").mkdir(exist_ok=True)  # it will not start without, and has it empty
    (folder / "home" / ".ssh").mkdir(parents=True)
    port = free_port()
    server = Sshd(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", folder)
    server.known_hosts.write_text(f"[127.0.0.1]:{port} {_make_key(folder / 'host')}")
    server.authorized.write_text(_make_key(folder / "home" / ".ssh" / "id_ed25519"))
    file = folder / "sshd_config"
    file.write_text(CONFIGURATION.format(port=port, folder=folder) + "\n".join(lines) + "\n")
    command = [PROGRAM, "-D", "-e", "-f", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert "listening" in said, said
            yield server
        finally:
            process.terminate()
