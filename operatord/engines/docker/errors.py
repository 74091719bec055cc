# SPDX-License-Identifier: MIT
"""What a refusal of the Docker Engine means, as a table.

The engine says what is wrong with an HTTP status and a sentence. The status alone does not distinguish a
taken port (500) from a bad command (400 or 500), so the sentence has to be parsed; this is the only place
that does. Known refusals are reported in our words, with what to do. The engine's own words are always in the
log; an answer has them only where the engine refuses a stage for a reason that no row knows, and then without
paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from operatord.engines.base import (
    DiskFull,
    EngineError,
    EngineFailed,
    EngineUnavailable,
    ImageMissing,
    NotConnected,
    NotOurAddress,
    NotThere,
    OutOfMemory,
    PortTaken,
    PullFailed,
    StageRefused,
    SubnetTaken,
)

from .reach import SETTINGS


class ErrorRule(NamedTuple):
    """One row: when all given members match, ``error`` is called with the subject's name and the engine's
    words."""

    during: tuple[str, ...]
    status: tuple[int, ...]
    says: str
    error: Callable[[str, str], EngineError]


def _because(
    reason: str, kind: type[EngineError] = StageRefused
) -> Callable[[str, str], EngineError]:
    """Return what makes an error of a sentence in which ``{name}`` stands for the subject."""
    return lambda name, says: kind(reason.format(name=name))


def _image_missing(name: str, says: str) -> ImageMissing:
    return ImageMissing(name)


def _quoted(name: str, says: str) -> StageRefused:
    """A bad request comes from the configuration: the engine describes best what is wrong with it."""
    return StageRefused(f"the engine refuses to run {name} as planned: {without_paths(says)}")


_RUN = ("create", "start")
_IN_USE = "address already in use"  # by a program of the host's
_NO_COMMAND_SENTENCES = ("no command specified", "cannot find `` in $path")  # the second is crun's
_PORT_SENTENCES = ("port is already allocated", "all ports are allocated", _IN_USE)


_PORT_TAKEN = _because("no host port that {name} may be published on is free", PortTaken)
_LITTLE_MEMORY = _because("{name} has a memory limit that is too low to start it", OutOfMemory)
_GONE = _because("{name} is not there any more", NotThere)
_REAPERS = ("catatonit", "docker-init")
"""What engines run as process 1 of a stage; on some systems it is a separate package."""
_NO_REAPER = _because(
    "the engine has no program that it could run as process 1 of {name}: install catatonit for Podman, tini "
    "or docker-init for Docker, on the engine's machine"
)
_NO_PROGRAM = _because(
    "the program of {name} is not in its image: correct the stage's `command`, or the image"
)
_NO_COMMAND = _because(
    "the image of {name} has no command of its own: set the stage's `command`, or build the image with CMD "
    "or ENTRYPOINT"
)
_NO_PATH = _because(
    "a path that {name} has among its volumes or secrets is not there on the engine's machine"
)
_NO_PATH_SENTENCES = ("bind source path does not exist", "statfs /")  # the second is Podman's
_NO_DEVICE = _because(
    "a device of {name} is not there: see its `devices`, and the engine's machine"
)
_NO_DEVICE_SENTENCES = (
    "error gathering device information",
    "stat /dev/",
)  # the second is Podman's
_NO_RUNTIME = _because("the engine has no runtime of the name in `runtime` of {name}")
_NO_RUNTIME_SENTENCES = (
    "unknown runtime",
    "unknown or invalid runtime name",
)  # the second is since Docker 28
_WANTS_LOGIN = _because(
    "what answers at the container engine's address wants a login, as no container engine does: correct "
    f"{SETTINGS}",
    EngineUnavailable,
)
_FORBIDDEN = _because(
    "what answers at the container engine's address forbids the daemon to use it, as a proxy may, or a "
    f"plugin of the engine: allow it there, or correct {SETTINGS}",
    EngineUnavailable,
)
_NOT_CLOSED = _because("the engine cannot make {name} without a way out")


def _pull_failed(reason: str) -> Callable[[str, str], EngineError]:
    return lambda name, says: PullFailed(name, reason.format(name=name))


_NEEDS_LOGIN = _pull_failed(
    "the registry of {name} asks for a login, or has no such image: log in there as the daemon's user "
    "(docker login), or correct the stage's `image`"
)
_LOGIN_SENTENCES = ("unauthorized", "authentication required", "no basic auth", "denied")
_NOT_IN_REGISTRY = _pull_failed(
    "the registry has no image {name}: correct the stage's `image`, or push the image there"
)
_NOT_IN_REGISTRY_SENTENCES = (
    "manifest unknown",
    "name unknown",
    "not found",
    "no matching manifest",
)
_NO_TLS = _pull_failed(
    "the registry of {name} speaks no TLS, and the engine wants it: allow it there (insecure-registries in "
    "Docker's daemon.json, insecure in Podman's registries.conf), or give it a certificate"
)
_NO_TLS_SENTENCES = ("does not look like a tls handshake", "http response to https")
_NO_REGISTRY = _pull_failed(
    "the registry of {name} is not reached from the engine's machine: correct the stage's `image`, see to "
    "the network, or load the image by hand"
)
_NO_REGISTRY_SENTENCES = (
    "connection refused", "no such host", "timeout", "no route to host", "unreachable", "deadline exceeded",
    "temporary failure", "connection reset", "x509", "eof", "canceled",
)  # fmt: skip
_BAD_PULL = _pull_failed("{name} could not be pulled; the engine's words are in the daemon's log")
_REFUSED = _because(
    "the engine refuses to run {name} as planned; its own words are in the daemon's log"
)

# Read from the top; the first row that matches wins. Empty means: any. Sentences are lower-cased.
RULES = (
    # Both the engine and the runtime below it quote the kernel's text for ENOSPC.
    ErrorRule(
        ("network", "pull", *_RUN), (), "no space left on device",
        _because("the engine's disk has no space left for {name}", DiskFull),
    ),
    ErrorRule(
        (), (400,), "http request to an https server",
        _because(
            "the container engine speaks TLS only: set DOCKER_TLS_VERIFY=1 or docker_tls_verify, and "
            "DOCKER_CERT_PATH or docker_cert_path to the folder of its certificates", EngineUnavailable,
        ),
    ),
    ErrorRule(("connect",), (401, 407), "", _WANTS_LOGIN),
    ErrorRule(("connect",), (403,), "", _FORBIDDEN),
    ErrorRule(
        ("network",), (), "overlap",
        _because("the subnet of {name} overlaps with another network's", SubnetTaken),
    ),
    # Podman's words, where a route or an interface of the host has it.
    ErrorRule(
        ("network",), (500,), "is already used",
        _because("the subnet of {name} is in use on the engine's host", SubnetTaken),
    ),
    *(ErrorRule(("pull",), (), says, _NEEDS_LOGIN) for says in _LOGIN_SENTENCES),
    *(ErrorRule(("pull",), (), says, _NOT_IN_REGISTRY) for says in _NOT_IN_REGISTRY_SENTENCES),
    *(ErrorRule(("pull",), (), says, _NO_TLS) for says in _NO_TLS_SENTENCES),
    *(ErrorRule(("pull",), (), says, _NO_REGISTRY) for says in _NO_REGISTRY_SENTENCES),
    ErrorRule(("pull",), (), "", _BAD_PULL),
    # Podman before 4.4, and what passes on the Docker API alone.
    ErrorRule(("network",), (), "unsupported bridge network option", _NOT_CLOSED),
    ErrorRule(("network",), (404,), "", _NOT_CLOSED),
    ErrorRule(("create", "image"), (404,), "no such image", _image_missing),
    ErrorRule(
        (*_RUN, "connect stage"), (), "cannot assign requested address",
        _because(
            "{name} cannot be published: the engine's host has no address like the one in `advertise_host`; "
            "set it to one of that host's", NotOurAddress,
        ),
    ),
    *(ErrorRule(("start",), (), says, _PORT_TAKEN) for says in _PORT_SENTENCES),
    # runc 1.1 and later say the first; the kernel has told nobody else yet. On cgroup v1 the limit is set
    # late, and the kernel refuses it when more is in use already.
    ErrorRule(("start",), (), "oom-killed", _LITTLE_MEMORY),
    ErrorRule(("start",), (), "unable to set memory limit", _LITTLE_MEMORY),
    *(ErrorRule(_RUN, (), f'"{program}": executable file not found', _NO_REAPER) for program in _REAPERS),
    *(ErrorRule(_RUN, (), says, _NO_COMMAND) for says in _NO_COMMAND_SENTENCES),
    ErrorRule(_RUN, (), "executable file not found", _NO_PROGRAM),
    ErrorRule(("start",), (), "command that was not found", _NO_PROGRAM),  # Podman's, with any runtime
    ErrorRule(
        _RUN, (), "unable to find user",
        _because(
            "the user of {name} is not known in its image: correct `user` of the stage, or USER of the image"
        ),
    ),
    ErrorRule(
        _RUN, (), "unable to find group",
        _because("a group in `group_add` of {name} is not known in its image: write the group's number"),
    ),
    *(ErrorRule(_RUN, (), says, _NO_PATH) for says in _NO_PATH_SENTENCES),
    *(ErrorRule(_RUN, (), says, _NO_DEVICE) for says in _NO_DEVICE_SENTENCES),
    *(ErrorRule(("create",), (), says, _NO_RUNTIME) for says in _NO_RUNTIME_SENTENCES),
    ErrorRule(
        ("create",), (404,), "does not match the specified platform",
        _because("the image of {name} is for another platform than `platform` says: load one for that"),
    ),
    ErrorRule(
        _RUN, (), "exec format error",
        _because(
            "the program of {name} is for another kind of machine, or begins with no #! line: take an image "
            "for this platform"
        ),
    ),
    ErrorRule(
        ("start",), (), "/ns/net: no such file",
        _because("the stage whose network {name} shares has ended"),
    ),
    ErrorRule(("start",), (400, 404), "no such file or directory", _NO_PROGRAM),
    ErrorRule(
        ("start",), (400, 404, 500), "permission denied",
        _because(
            "the user of {name} may not execute its program: make it executable for all in its image"
        ),
    ),
    # containerd's own refusals: 404 for a program that is not in the image, on some versions.
    ErrorRule(("start",), (), "oci runtime", _REFUSED),
    ErrorRule(
        ("create",), (400,), "minimum memory limit",
        _because("{name} would have less memory than the engine allows: raise the stage's `memory_limit`"),
    ),
    # Devices were asked for, and the engine has no runtime that could hand them over.
    ErrorRule(
        ("start",), (), "could not select device driver",
        _because("the engine cannot give {name} the devices that it needs"),
    ),
    ErrorRule(
        (*_RUN, "connect stage"), (404,), "network",
        _because("the network of {name} is not there any more", NotThere),
    ),
    ErrorRule((), (404,), "", _GONE),
    ErrorRule((), (409,), "marked for removal", _GONE),
    ErrorRule(
        ("connect stage",), (), "",
        _because("the engine cannot connect {name} late", NotConnected),
    ),
    ErrorRule(_RUN, (400,), "", _quoted),
    ErrorRule((*_RUN, "leave"), (400, 403, 409), "", _REFUSED),
)  # fmt: skip

_PATH = re.compile(r"(?<![\w.])/[^\s:;,\"')\]]+")
"""An absolute path; what stands before it and after it is kept."""
_MOST_WORDS = 300
"""Characters of the engine's sentence that are passed on."""


def in_one_line(sentence: str) -> str:
    """Return it for the log: without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in sentence).split())


def without_paths(sentence: str) -> str:
    """Return it for a client: without paths of the host, and shortened."""
    return _PATH.sub("…", in_one_line(sentence))[:_MOST_WORDS]


def refusal(during: str, status: int, sentence: str, subject: str) -> EngineError:
    """Return the error for an answer with an error status.

    ``during`` is the operation, ``subject`` the name of what it was about. An answer that matches no row is
    the engine's own fault.
    """
    says = sentence.lower()
    for rule in RULES:
        if (
            (not rule.during or during in rule.during)
            and (not rule.status or status in rule.status)
            and rule.says in says
        ):
            return rule.error(subject, sentence)
    return EngineFailed(f"the engine failed to {_TASKS[during]} {subject} (status {status})")


def no_command(name: str) -> EngineError:
    """Return the error for a stage without a program to run."""
    return _NO_COMMAND(name, "")


def port_in_use(sentence: str) -> bool:
    """Tell whether a start failed on a port that a program outside the engine has."""
    return _IN_USE in sentence.lower()


def not_connected(sentence: str) -> bool:
    """Tell whether a container could not be disconnected because it is not connected."""
    return "is not connected to" in sentence.lower()


def still_needed(sentence: str) -> bool:
    """Tell whether a container could not be removed because others share its namespace."""
    return "dependent containers" in sentence.lower()


_TASKS = {
    "ask": "answer",
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
    "pull": "pull",
    "release": "remove",
    "remove": "remove",
    "start": "start",
    "stats": "measure",
    "stop": "stop",
}
