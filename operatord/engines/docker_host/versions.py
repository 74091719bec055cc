# SPDX-License-Identifier: MIT
"""Which API version is used with a Docker Engine: the newest that both ends know."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from operatord.engines.docker_host import light_requests  # isort: skip  # noqa: F401 (before docker-py)
from docker.constants import DEFAULT_DOCKER_API_VERSION

from operatord.engines.base import EngineUnavailable

NEWEST = DEFAULT_DOCKER_API_VERSION
OLDEST = "1.41"
"""That of Docker 20.10, the first with everything that operatord uses."""
_VERSION = re.compile(r"\d+\.\d+")
_TOO_OLD = re.compile(
    r"client version (\d+\.\d+) is too (old|new)\b.*?supported API version is (\d+\.\d+)",
    re.I | re.S,
)


@contextlib.contextmanager
def read_as_engines() -> Iterator[None]:
    """Turn what is raised over an answer that is JSON, but none of an engine, into `EngineUnavailable`."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise EngineUnavailable(
            "what answers at the container engine's address is not a container engine: it does not say what "
            "one says of itself; correct docker_host or DOCKER_HOST, or the docker context"
        ) from exc


def negotiate(answer: dict[str, Any]) -> str:
    """Return the version to speak by what ``GET /version`` gave. Raises `EngineUnavailable`."""
    newest = answer.get("ApiVersion")
    oldest = answer.get("MinAPIVersion") or newest
    if not all(isinstance(v, str) and _VERSION.fullmatch(v) for v in (oldest, newest)):
        raise EngineUnavailable(
            "what answers at the container engine's address is not a container engine: it gives no version "
            "of Docker's API"
        )
    name = f"the container engine (version {answer.get('Version', 'unknown')})"
    if numbers(newest) < numbers(OLDEST):
        raise EngineUnavailable(
            f"{name} is too old: it speaks Docker's API up to version {newest}, and operatord speaks it "
            f"from {OLDEST} (Docker 20.10) on; update the engine"
        )
    if numbers(oldest) > numbers(NEWEST):
        raise EngineUnavailable(
            f"{name} is too new: it speaks Docker's API from version {oldest} on, and operatord speaks it "
            f"up to {NEWEST}; update operatord, and the Python package docker that it uses"
        )
    return str(min(newest, NEWEST, key=numbers))


def refused(sentence: str) -> EngineUnavailable | None:
    """Return the error if an engine has refused a request for its version; None if it has not. This happens
    when another engine has replaced the one whose version was read.
    """
    found = _TOO_OLD.search(sentence)
    if found is None:
        return None
    ours, how, theirs = found.groups()
    return EngineUnavailable(
        f"the container engine no longer speaks version {ours} of Docker's API, which is too {how}: it "
        f"needs {theirs}; operatord asks again which versions it speaks"
    )


def numbers(version: Any) -> tuple[int, ...]:
    """Return a version such as ``1.41`` as numbers that can be compared."""
    return tuple(int(part) for part in str(version).split("."))
