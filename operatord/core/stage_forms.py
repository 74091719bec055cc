# SPDX-License-Identifier: MIT
"""How the settings of a stage's container are written: each in the form that Compose has for it.

Each function reads one entry, and raises `ValueError` with the end of a sentence that says what is wanted.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import NamedTuple

from operatord_protocol.checking import suggestion
from operatord_protocol.hosts import host_problem

from .units import Bytes

HOST_GATEWAY = "host-gateway"
"""In place of an address: the engine's machine."""
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_KEPT = ("/proc", "/sys")
"""Where an engine mounts what is the kernel's."""
_FLAGS = ("rw", "ro", "exec", "noexec")
_NUMBERS = {
    "uid": re.compile(r"\d{1,10}\Z"),
    "gid": re.compile(r"\d{1,10}\Z"),
    "mode": re.compile(r"[0-7]{3,4}\Z"),
}
_HARDENED = ("nosuid", "nodev")
_SHORT_SIZE = re.compile(r"(\d{1,15})([kmgKMG]?)[bB]?\Z")
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30}
_PERMISSIONS = re.compile(r"(?!.*(.).*\1)[rwm]{1,3}\Z")
_VARIABLE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]{0,127})=(.*)\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_QUOTED = re.compile(r"(['\"])(.*)\1\Z")
_ACCOUNT = re.compile(r"(?:\d{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31})\Z")


class Volume(NamedTuple):
    """Where something of the engine's machine is in a container."""

    source: str
    """An absolute path, or a volume's name."""
    target: str
    writable: bool


class MemoryFiles(NamedTuple):
    """A file system in memory."""

    target: str
    size: int | None
    """Bytes; None: as much as the stage may have."""
    options: str
    """Of mount, all that there are."""


class DeviceFile(NamedTuple):
    """A device in a container."""

    source: str
    target: str
    permissions: str


def volume(text: str) -> Volume:
    """Read ``SOURCE:TARGET`` or ``SOURCE:TARGET:rw``."""
    source, colon, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not colon or not source or not target:
        raise ValueError(
            f"expected SOURCE:TARGET such as /srv/models:/models, or models:/models:rw, got {text!r}"
        )
    if mode not in ("", "ro", "rw"):
        raise ValueError(f"after the target only ro or rw is possible, not {mode!r}")
    if not _VOLUME_NAME.match(source):
        on_machine(source)
    return Volume(source, in_container(target), mode == "rw")


def in_container(path: str) -> str:
    """Return an absolute path in a container in its shortest form."""
    _check_path(path, "a path in the container")
    if path == "/" or any(path == kept or path.startswith(f"{kept}/") for kept in _KEPT):
        raise ValueError(f"nothing can be mounted at {path}; choose another path in the container")
    return path


def on_this_machine(path: str) -> str:
    """Return an absolute path of the daemon's machine."""
    _check_path(path, "a path of the daemon's machine")
    return path


def on_machine(path: str) -> str:
    """Return an absolute path of the engine's machine."""
    _check_path(path, "a path of the engine's machine")
    return path


def _check_path(path: str, what: str) -> None:
    if not path.isprintable():
        raise ValueError(f"{what} has no control characters, and {path!r} has one")
    if not path.startswith("/"):
        raise ValueError(f"{what} is absolute, and {path!r} is not")
    if posixpath.normpath(path) != path or path.startswith("//"):
        raise ValueError(
            f"{what} is written without . and .. and needless slashes, and {path!r} is not"
        )


def memory_files(text: str) -> MemoryFiles:
    """Read ``TARGET`` or ``TARGET:size=64m,mode=1777``; nothing in it is executed unless ``exec`` is said."""
    path, _, listed = text.partition(":")
    target, size = in_container(path), None
    said = dict.fromkeys(("rw", "noexec", *_HARDENED))
    for word in filter(None, listed.split(",")):
        name, equals, value = word.partition("=")
        if name == "size" and equals:
            size = _size(value)
        elif name in _NUMBERS and _NUMBERS[name].match(value):
            said[word] = None
        elif word in _FLAGS:
            opposite = {"rw": "ro", "ro": "rw", "exec": "noexec", "noexec": "exec"}[word]
            said.pop(opposite, None)
            said[word] = None
        else:
            known = ("size", *_NUMBERS, *_FLAGS)
            hint = "" if name in known else suggestion(name, known)
            raise ValueError(
                f"expected TARGET:size=64m,mode=1777, and {word!r} is not an option{hint}"
            )
    options = [*said, *([] if size is None else [f"size={size}"])]
    return MemoryFiles(target, size, ",".join(options))


def _size(text: str) -> int:
    """Read a size as mount writes it (64m), or as these settings do."""
    if (short := _SHORT_SIZE.match(text)) is not None:
        return int(short[1]) << _SHIFT[short[2].lower()]
    return int(Bytes.parse(text))


def device(text: str) -> DeviceFile:
    """Read ``/dev/video0``, ``/dev/video0:/dev/video1`` or ``/dev/video0:/dev/video1:r``."""
    source, _, rest = text.partition(":")
    target, _, permissions = rest.partition(":")
    for path in (source, target or source):
        if not path.startswith("/"):
            raise ValueError(
                f"a device is a path such as /dev/video0, and {path!r} is not one; for graphics "
                "cards, use gpus"
            )
        _check_path(path, "the path of a device")
    if permissions and not _PERMISSIONS.match(permissions):
        raise ValueError(f"permissions are some of r, w and m, such as rw, not {permissions!r}")
    return DeviceFile(source, target or source, permissions or "rw")


def account(value: str | int) -> str:
    """Read the name or number of a user or group."""
    if not _ACCOUNT.match(str(value)):
        raise ValueError(f"expected a name or a number such as 1000, got {value!r}")
    return str(value)


def user(value: str | int) -> str:
    """Read ``1000``, ``1000:1000``, or names that the image knows."""
    name, colon, group = str(value).partition(":")
    if not _ACCOUNT.match(name) or (colon and not _ACCOUNT.match(group)):
        raise ValueError(
            f"expected a name or number, and maybe a group's, such as 1000:1000, got {value!r}"
        )
    return str(value)


def extra_host(text: str) -> tuple[str, str]:
    """Read ``scanner:10.0.0.7`` or ``scanner=10.0.0.7``; an address may be ``host-gateway``."""
    match = re.match(r"([^:=]+)[:=](.+)\Z", text)
    if match is None:
        raise ValueError(f"expected NAME:ADDRESS such as scanner:10.0.0.7, got {text!r}")
    name, written = match[1], match[2].removeprefix("[").removesuffix("]")
    if problem := host_problem(name):
        raise ValueError(problem)
    return name, written if written == HOST_GATEWAY else address(written)


def address(text: str) -> str:
    """Read an IP address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise ValueError(f"expected an address such as 10.0.0.7, got {text!r}") from exc


def variables(text: str) -> dict[str, str]:
    """Read the lines of a file of environment variables: ``NAME=VALUE``, comments and blank ones.

    Quotes around a whole value are taken off, and nothing in it stands for anything else. What is raised
    names the line and does not quote it.
    """
    found = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _VARIABLE.match(stripped)
        if match is None:
            raise ValueError(f"line {number} is not NAME=VALUE")
        value = match[2] if (quoted := _QUOTED.match(match[2])) is None else quoted[2]
        if _CONTROL.search(value):
            raise ValueError(f"line {number} has a control character")
        found[match[1]] = value
    return found
