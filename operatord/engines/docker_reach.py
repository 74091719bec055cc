# SPDX-License-Identifier: MIT
"""Why a Docker Engine cannot be reached, as a table: what went wrong below, and what is to be done about it.

What the operating system says lies at the bottom of several libraries' exceptions; each of these wraps it in
its own way. The sentences name the kind of the trouble, and no path: clients read them. The log has all.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple

import requests

from operatord.engines.base import DESCRIPTORS_GONE, EngineSilent, EngineUnavailable, NoDescriptors

_SETTINGS = "docker_host or DOCKER_HOST"


class Rule(NamedTuple):
    """One row: when ``fits`` holds for anything below the exception, it is ``kind`` with this sentence."""

    fits: Callable[[BaseException], bool]
    sentence: str
    kind: type[EngineUnavailable] = EngineUnavailable


def _is(*types: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda exc: isinstance(exc, types)


def _errno(*numbers: int) -> Callable[[BaseException], bool]:
    return lambda exc: isinstance(exc, OSError) and exc.errno in numbers


def _says(text: str) -> Callable[[BaseException], bool]:
    return lambda exc: text in str(exc).lower()


# Read from the top; the first row that fits wins.
RULES = (
    Rule(
        _is(PermissionError),
        "this user may not use the container engine's socket: add it to the group that owns the socket, "
        "most often docker (usermod -aG docker USER, then log in anew), or run operatord as a user who may",
    ),
    Rule(
        _is(FileNotFoundError, NotADirectoryError),
        f"the container engine's socket is not there: start the engine, or correct {_SETTINGS}",
    ),
    Rule(
        _is(ConnectionRefusedError),
        "the connection to the container engine is refused, for nothing listens at its address: start the "
        f"engine, or correct {_SETTINGS}",
    ),
    Rule(
        _is(ssl.SSLCertVerificationError),
        "the container engine's certificate is not trusted: have it signed by a public authority, for the "
        f"name in {_SETTINGS}, or reach the engine by its Unix socket or a tunnel to it",
    ),
    Rule(
        _says("wrong_version_number"),
        f"the container engine does not speak TLS: write tcp:// instead of https:// in {_SETTINGS}",
    ),
    Rule(
        _is(ssl.SSLError, requests.exceptions.SSLError),
        "the container engine and operatord agree on no encrypted connection; it may want a client's "
        "certificate, which operatord does not have: use its Unix socket, or a tunnel to it",
    ),
    Rule(
        _says("paramiko"),
        "an engine at an ssh:// address needs the Python package paramiko, which is not installed: pip "
        "install paramiko, or let ssh forward the engine's socket and name that with unix://",
    ),
    Rule(
        _is(socket.gaierror),
        f"the name of the container engine's host is not known: correct it in {_SETTINGS}",
    ),
    Rule(
        _errno(errno.EHOSTUNREACH, errno.ENETUNREACH),
        "there is no way to the container engine's host: look after the network, or correct "
        f"{_SETTINGS}",
    ),
    Rule(
        _is(requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema),
        f"the container engine's address cannot be used: correct {_SETTINGS}",
    ),
    Rule(
        _is(TimeoutError, requests.exceptions.Timeout, BlockingIOError),
        "the container engine did not answer in time",
        EngineSilent,
    ),
)
_BROKEN_OFF = Rule(
    lambda _: True, "the connection to the container engine was broken off", EngineSilent
)


def unreachable(exc: BaseException) -> EngineUnavailable:
    """Return what an exception of docker-py, requests or the system's means for whoever needs the engine."""
    below = list(_below(exc))
    # Not one of the rows: it is this process that is short of something, whatever came of it.
    if any(isinstance(each, OSError) and each.errno in DESCRIPTORS_GONE for each in below):
        return NoDescriptors()
    rule = next((rule for rule in RULES if any(map(rule.fits, below))), _BROKEN_OFF)
    return rule.kind(rule.sentence)


def _below(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it was made of, each once."""
    todo, seen = [exc], set[int]()
    while todo:
        each = todo.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            causes = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
            todo += [cause for cause in causes if isinstance(cause, BaseException)]
