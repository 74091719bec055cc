# SPDX-License-Identifier: MIT
"""The contexts of the docker command: engines that somebody has given a name (``docker context create``).

docker-py's own reader is not used: without a configuration file it looks in the working directory, and it
treats an unknown context as the local engine.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .tls import BadEndpoint, Tls, those_in

DEFAULT = "default"
"""The name that stands for no context."""


def current(env: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the context that the environment or the configuration names, and which of them does. Raises
    `BadEndpoint`."""
    if name := env.get("DOCKER_CONTEXT"):
        return name, "DOCKER_CONTEXT"
    file = config_dir(env) / "config.json"
    name = _read(file, "docker's configuration").get("currentContext") if file.exists() else None
    return (name if isinstance(name, str) else None), "docker's current context"


def find(name: str, said_by: str, env: Mapping[str, str]) -> tuple[str, Tls | None]:
    """Return the address in a context, "" where it has none, and its certificates. Raises `BadEndpoint`."""
    folder = config_dir(env) / "contexts"
    key = hashlib.sha256(name.encode()).hexdigest()
    file = folder / "meta" / key / "meta.json"
    if not file.exists():
        raise BadEndpoint(_unknown(name, said_by, _names(folder)))
    endpoints = _read(file, f"the docker context {name!r}").get("Endpoints")
    engine = endpoints.get("docker") if isinstance(endpoints, dict) else None
    url = engine.get("Host", "") if isinstance(engine, dict) else None
    if not isinstance(engine, dict) or not isinstance(url, str):
        raise BadEndpoint(f"the docker context {name!r} names no container engine", file)
    verify = not engine.get("SkipTLSVerify")
    tls = those_in(folder / "tls" / key / "docker", verify=verify)
    # A context without certificates uses TLS only if verification is off.
    return url, None if tls == Tls(verify=True) else tls


def config_dir(env: Mapping[str, str]) -> Path:
    """Return where the docker command keeps its configuration."""
    return Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME") or "~") / ".docker").expanduser()


def _names(folder: Path) -> list[str]:
    """Return the names of all contexts; those that cannot be read are left out."""
    names = [DEFAULT]
    for file in folder.glob("meta/*/meta.json"):
        try:
            name = _read(file, "a docker context").get("Name")
        except BadEndpoint:
            continue
        if isinstance(name, str):
            names.append(name)
    return sorted(names)


def _unknown(name: str, said_by: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    known = ", ".join(names)
    return f"{said_by}: there is no docker context {name!r}{hint} There are: {known} (docker context ls)"


def _read(file: Path, what: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except OSError as exc:
        raise BadEndpoint(f"{what} cannot be read: {exc.strerror}", file) from exc
    except ValueError as exc:
        raise BadEndpoint(f"{what} is not JSON", file) from exc
    if not isinstance(data, dict):
        raise BadEndpoint(f"{what} is not a JSON object", file)
    return data
