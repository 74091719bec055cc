# SPDX-License-Identifier: MIT
"""Settings from environment variables, and messages about variables that look like settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .config import Config, ConfigError, to_dict

PREFIX_OF_VARIABLES = "OPERATORD_"
OTHER_VARIABLES = (
    "OPERATORD_CONFIG", "OPERATORD_ADDRESS", "OPERATORD_TOKEN", "OPERATORD_CA", "OPERATORD_CERT",
    "OPERATORD_KEY", "OPERATORD_SESSION", "OPERATORD_LATE_BIND",
    "OPERATORD_FAILPOINT", "OPERATORD_GUARD", "OPERATORD_NO_ENGINE_REASON",
)  # fmt: skip
"""Variables with our prefix that are not settings: for the command line, the client, stages and tests."""
_FILE_ONLY = ("pipelines", "sources")
"""Settings that no variable sets."""


def not_settings(env: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings, but match none, not even nearly."""
    return [name for name in _strange(env) if not _slip(name)]


def slips(env: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that was probably meant to be another one."""
    return [said for name in _strange(env) if (said := _slip(name))]


def in_small_letters(env: Mapping[str, str]) -> list[str]:
    """Return the variables that would be settings, were they written in capital letters."""
    known = {*_variables(), *OTHER_VARIABLES}
    return sorted(name for name in env if name not in known and name.upper() in known)


def from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Read ``OPERATORD_LISTEN`` for listen, ``OPERATORD_LIMITS_SESSIONS`` for limits.sessions, …"""
    found: dict[str, Any] = {}
    for path in _scalars(to_dict(Config())):
        text = env.get(_variable(path))
        if text is None:
            continue
        place = found
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = _env_value(path, text)
    return found


def _env_value(path: tuple[str, ...], text: str) -> Any:
    from . import file as settings_file  # noqa: PLC0415  # 10 ms that --help need not pay
    from . import yaml_text as settings_yaml  # noqa: PLC0415  # 10 ms that --help need not pay

    try:
        return settings_file.value(text)
    except settings_yaml.Unusable as exc:
        raise ConfigError([f"{_variable(path)}: {each}" for each in exc.problems]) from exc


def with_variable(problem: str, env: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """Return a sentence about a setting with the variable that it was read from, if it was."""
    setting = re.split(r"[:\[]", problem)[0]
    for path in _scalars(to_dict(Config())):
        variable = _variable(path)
        if setting == ".".join(path) and path[0] not in given and variable in env:
            # Of a file's quotes it is said that there are too many; here are none.
            return f"{variable}: {problem.removesuffix(', without quotes')}"
    return problem


def _strange(env: Mapping[str, str]) -> list[str]:
    """Return the unknown variables with our prefix. Orchestrators set variables with such names for a service
    called operatord; those are left out.
    """
    known = {*_variables(), *OTHER_VARIABLES}
    return sorted(
        name
        for name, value in env.items()
        if name.startswith(PREFIX_OF_VARIABLES)
        and name not in known
        and not name.startswith("OPERATORD_SERVICE_")
        and not (name.startswith("OPERATORD_PORT") and ("_TCP" in name or "://" in value))
    )


def _slip(name: str) -> str | None:
    """Return what was probably meant by an unknown variable, as a sentence; None if nobody can tell."""
    near = difflib.get_close_matches(name, [*_variables(), *OTHER_VARIABLES], n=1, cutoff=0.85)
    return f"{name}: there is no such setting; did you mean {near[0]}?" if near else None


def _variables() -> list[str]:
    return [_variable(path) for path in _scalars(to_dict(Config()))]


def _variable(path: Sequence[str]) -> str:
    return PREFIX_OF_VARIABLES + "_".join(path).upper()


def _scalars(data: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all settings but those of a file only."""
    paths: list[tuple[str, ...]] = []
    for key, value in data.items():
        if isinstance(value, dict) and key not in _FILE_ONLY:
            paths += _scalars(value, (*prefix, key))
        elif key not in _FILE_ONLY:
            paths.append((*prefix, key))
    return paths
