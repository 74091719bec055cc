# SPDX-License-Identifier: MIT
"""What a refusal of the Docker Engine means, as a table.

The engine says what is wrong with an HTTP status and a sentence. The status alone does not tell a
taken port (500) from a bad command (400 or 500), so the sentence has to be looked at; this is the
only place that does. The engine's words never become ours: they stay in the exception's cause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from operatord.engines.base import (
    DiskFull,
    EngineError,
    EngineFailed,
    ImageMissing,
    NotConnected,
    NotThere,
    PortTaken,
    StageRefused,
    SubnetTaken,
)


class Rule(NamedTuple):
    """One row: when all that is given matches, ``error`` is made of the subject's name."""

    during: tuple[str, ...]
    status: tuple[int, ...]
    says: str
    error: Callable[[str], EngineError]


def _subnet_taken(name: str) -> SubnetTaken:
    return SubnetTaken(f"the subnet of {name} overlaps with another network's")


def _not_there(name: str) -> NotThere:
    return NotThere(f"{name} is not there any more")


def _no_network(name: str) -> NotThere:
    return NotThere(f"the network of {name} is not there any more")


def _port_taken(name: str) -> PortTaken:
    return PortTaken(f"no host port that {name} may be published on is free")


def _refused(name: str) -> StageRefused:
    return StageRefused(f"the engine refuses to run {name} as planned")


def _not_connected(name: str) -> NotConnected:
    return NotConnected(f"the engine cannot connect {name} late")


def _disk_full(name: str) -> DiskFull:
    return DiskFull(f"the engine's disk has no space left for {name}")


def _no_devices(name: str) -> StageRefused:
    return StageRefused(f"the engine cannot give {name} the devices that it is to have")


_RUN = ("create", "start")
_IN_USE = "address already in use"  # by a program of the host's
_PORT_SENTENCES = ("port is already allocated", "all ports are allocated", _IN_USE)

# Read from the top; the first row that matches wins. Empty means: any. Sentences are lower-cased.
RULES = (
    # Whoever reports it, the engine or the runtime below it, quotes the kernel's word for ENOSPC.
    Rule(("network", *_RUN), (), "no space left on device", _disk_full),
    Rule(("network",), (), "overlap", _subnet_taken),
    Rule(("create", "image"), (404,), "no such image", ImageMissing),
    *(Rule(("start",), (), says, _port_taken) for says in _PORT_SENTENCES),
    # containerd's own refusals: 404 for a program that is not in the image, on some versions.
    Rule(("start",), (), "oci runtime", _refused),
    # Devices were asked for, and the engine has no runtime that could hand them over.
    Rule(("start",), (), "could not select device driver", _no_devices),
    Rule((*_RUN, "connect stage"), (404,), "network", _no_network),
    Rule((), (404,), "", _not_there),
    Rule((), (409,), "marked for removal", _not_there),
    Rule(("connect stage",), (), "", _not_connected),
    Rule((*_RUN, "leave"), (400, 403, 409), "", _refused),
)


def refusal(during: str, status: int, sentence: str, subject: str) -> EngineError:
    """Return the error for an answer with an error status.

    ``during`` is the operation, ``subject`` the name of what it was about. What no row knows is
    the engine's own trouble.
    """
    says = sentence.lower()
    for rule in RULES:
        if (
            (not rule.during or during in rule.during)
            and (not rule.status or status in rule.status)
            and rule.says in says
        ):
            return rule.error(subject)
    return EngineFailed(f"the engine failed to {_TASKS[during]} {subject} (status {status})")


def port_in_use(sentence: str) -> bool:
    """Tell whether a start failed on a port that a program outside the engine has."""
    return _IN_USE in sentence.lower()


def not_connected(sentence: str) -> bool:
    """Tell whether a container could not be disconnected because it is not connected."""
    return "is not connected to" in sentence.lower()


_TASKS = {
    "attach": "attach to",
    "connect": "answer for",
    "connect stage": "connect",
    "create": "create",
    "disconnect": "disconnect",
    "events": "report on",
    "image": "look up",
    "inspect": "look up",
    "leave": "disconnect",
    "list": "list",
    "logs": "read the logs of",
    "network": "create",
    "release": "remove",
    "remove": "remove",
    "start": "start",
    "stats": "measure",
    "stop": "stop",
}
