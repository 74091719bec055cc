# SPDX-License-Identifier: MIT
"""`make install` puts each file where it belongs, and `make uninstall` takes them away again."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from operatord.settings.loading import load

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
UNITS = "usr/local/lib/systemd/system"
LIB = "usr/local/lib/operatord"
FILES = {
    "etc/operatord/operatord.yaml": 0o644,
    "usr/local/lib/sysusers.d/operatord.conf": 0o644,
    "usr/local/lib/tmpfiles.d/operatord.conf": 0o644,
    "usr/local/share/doc/operatord/README.md": 0o644,
    f"{UNITS}/operatord.service": 0o644,
    f"{UNITS}/operatord.socket": 0o644,
}
MOST_EXPOSED = 2.0
"""What `systemd-analyze security` calls OK is below 4; the unit has 1.7."""


def files_of(destdir: Path) -> dict[str, int]:
    """Return the mode of each file but those of the environment and the links to its commands."""
    return {
        str(path.relative_to(destdir)): path.stat().st_mode & 0o7777
        for path in destdir.rglob("*")
        if path.is_file() and not path.is_symlink() and destdir / LIB not in path.parents
    }


def unit(destdir: Path, name: str) -> configparser.ConfigParser:
    """Return a unit; of keys that are given several times, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(destdir / UNITS / name)
    return parser


def test_each_file_is_where_it_belongs(installed: Path) -> None:
    assert files_of(installed) == FILES
    state = installed / "var/lib/operatord"
    assert (state.stat().st_mode & 0o7777, list(state.iterdir())) == (0o700, [])
    for command in ("operatord", "operatorctl"):
        link = installed / "usr/local/bin" / command
        assert link.is_symlink()
        assert link.resolve() == installed / LIB / "bin" / command


def test_nothing_says_where_it_was_made(installed: Path) -> None:
    """What is packed in DESTDIR runs elsewhere."""
    telltale = str(installed).encode()
    found = [
        path
        for path in installed.rglob("*")
        if path.is_file() and not path.is_symlink() and telltale in path.read_bytes()
    ]
    assert found == []


def test_the_commands_begin_with_the_environments_python(installed: Path) -> None:
    first, *_ = (installed / LIB / "bin/operatord").read_text().splitlines()
    assert first == f"#!/{LIB}/bin/python"


def test_the_settings_agree_with_the_units(installed: Path) -> None:
    config = load(installed / "etc/operatord/operatord.yaml", {}, {})
    text = (installed / UNITS / "operatord.socket").read_text()
    assert re.findall(r"^ListenStream=(.+)$", text, re.MULTILINE) == [config.listen, config.unix]
    service = unit(installed, "operatord.service")["Service"]
    assert config.state_path == Path("/var/lib") / service["StateDirectory"]
    assert service["ExecStart"] == f"/{LIB}/bin/operatord serve"


def test_each_exception_from_hardening_has_its_reason(installed: Path) -> None:
    text = (installed / UNITS / "operatord.service").read_text()
    _, _, exceptions = text.partition("# Exceptions")
    for name in ("PrivateDevices", "PrivateNetwork", "ProcSubset", "PrivateUsers", "AF_NETLINK"):
        assert re.search(rf"^# {name}.*: ", exceptions, re.MULTILINE), name


def test_an_upgrade_keeps_the_settings(
    installed: Path, to_make: Callable[..., str], tmp_path: Path
) -> None:
    shutil.copytree(installed, tmp_path / "root", symlinks=True)
    settings = tmp_path / "root/etc/operatord/operatord.yaml"
    settings.write_text("limits: {sessions: 5}\n")
    (tmp_path / "root" / LIB / "left-of-the-old-version").touch()
    to_make("install", tmp_path / "root")
    assert settings.read_text() == "limits: {sessions: 5}\n"
    assert not (tmp_path / "root" / LIB / "left-of-the-old-version").exists()
    said = to_make("uninstall", tmp_path / "root")
    assert "/etc/operatord, /var/lib/operatord and the user operatord stay" in said
    assert files_of(tmp_path / "root") == {"etc/operatord/operatord.yaml": 0o644}
    assert not (tmp_path / "root" / LIB).exists()
    assert list((tmp_path / "root/usr/local/bin").iterdir()) == []


IN_THE_SYSTEM = """
set -e
mount -t tmpfs tmpfs "$1"
for folder in etc usr/local var/lib; do
    new=$1/$folder/new work=$1/$folder/work
    mkdir -p "$new" "$work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=$new,workdir=$work" overlay "/$folder"
done
mount -t tmpfs tmpfs /run
packaging/install
getent passwd operatord
id -nG operatord
stat -c '%U %G %a %n' /var/lib/operatord /run/operatord
/usr/local/bin/operatord check-config --quiet && operatorctl --version
packaging/install uninstall
ls -d /usr/local/bin/operatord* /usr/local/lib/operatord* || ls /etc/operatord
"""
"""Installs into the system, of which only this process sees what is changed."""


@pytest.mark.usefixtures("installed")  # or it cannot be, and why
def test_without_destdir_it_is_in_the_system_with_its_user(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed, or this is not root")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "DESTDIR")}
    command = ("unshare", "--mount", "bash", "-c", IN_THE_SYSTEM, "bash", tmp_path)
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    user = next(line for line in said if line.startswith("operatord:"))
    assert user.split(":")[5] == "/var/lib/operatord"
    assert "operatord docker" in said
    assert "operatord operatord 700 /var/lib/operatord" in said
    assert "operatord operatord 755 /run/operatord" in said
    assert said[-1] == "operatord.yaml"


@pytest.mark.parametrize("prefix", ["usr", "/usr lib"])
def test_a_prefix_that_is_none_is_refused(tmp_path: Path, prefix: str) -> None:
    env = {"PATH": "/usr/bin:/bin", "DESTDIR": str(tmp_path), "PREFIX": prefix}
    command = (ROOT / "packaging/install", "install")
    done = subprocess.run(command, env=env, check=False, text=True, capture_output=True)
    assert done.returncode == 1
    assert f"PREFIX must be an absolute path without blanks, and is '{prefix}'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def analyze(*arguments: str | Path) -> str:
    """Return what `systemd-analyze` prints, with what it complains of."""
    program = shutil.which("systemd-analyze") or pytest.skip("systemd-analyze is not installed")
    command = (program, *map(str, arguments))
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_calls_it_hardened(installed: Path) -> None:
    service = installed / UNITS / "operatord.service"
    threshold = f"--threshold={MOST_EXPOSED * 10:.0f}"
    said = analyze("security", "--offline=yes", "--no-pager", threshold, service)
    assert "OK" in said.splitlines()[-1]


def test_systemd_understands_each_line(installed: Path, tmp_path: Path) -> None:
    """With the command that is started in a place where it is, for that is looked for, too."""
    for name in ("operatord.service", "operatord.socket"):
        text = (installed / UNITS / name).read_text()
        (tmp_path / name).write_text(text.replace("=/usr/local", f"={installed}/usr/local"))
    assert analyze("verify", "--man=no", tmp_path / "operatord.service") == ""
