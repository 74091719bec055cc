# SPDX-License-Identifier: MIT
"""Where the settings come from.

Command line beats environment beats file beats defaults. A file is laid over the defaults key by key.
Whatever is unknown, of the wrong type or contradictory is one sentence with the setting's path; all of
them are found at once, and the daemon does not start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from operatord.core.pipelines import Stage
from operatord.core.units import custom
from operatord_protocol.absent import given

from .checks import contradictions
from .config import Config, ConfigError, to_dict
from .type_errors import sentence
from .variables import from_environment, slips, with_variable

S = TypeVar("S", bound=Stage)


def from_dict(data: Mapping[str, Any], overlays: Sequence[Mapping[str, Any]] = ()) -> Config:
    """Lay ``data`` and then ``overlays`` over the defaults. Raises `ConfigError`."""
    merged = to_dict(Config())
    for layer in (data, *overlays):
        merged = _lay_over(merged, layer)
    try:
        config = msgspec.convert(merged, Config, dec_hook=custom)
    except msgspec.ValidationError as exc:
        raise ConfigError([sentence(exc, merged)]) from exc
    if found := contradictions(config):
        raise ConfigError(found)
    return config


def load(
    path: Path | None, env: Mapping[str, str], options: Mapping[str, Any], *, again: bool = False
) -> Config:
    """Return the settings from file, environment and command line. Raises `ConfigError`.

    ``options`` maps settings to values; those that are None were not given. ``again``, for a serving daemon:
    reading must not block, so the file has to be a regular one.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if found := slips(env):
        raise ConfigError(found)
    try:
        config = from_dict(_read(path, again=again) if path else {}, (from_environment(env), given))
    except ConfigError as exc:
        if exc.path is not None:
            raise
        told = [with_variable(each, env, given) for each in exc.problems]
        raise ConfigError(told, path if told == exc.problems else None) from exc
    try:
        config.state_path  # noqa: B018
    except RuntimeError as exc:  # pathlib's, of ~
        what = "there is no home directory to keep it in; set it, or give --state-dir"
        raise ConfigError([f"state_dir: {what}"]) from exc
    return config


def with_env_files(config: Config) -> Config:
    """Return the settings with what is in each stage's ``env_file`` below its ``env``. Raises `ConfigError`.

    What the files hold is known only to what runs stages: nothing that prints settings reads them.
    """
    found: list[str] = []
    pipelines = {
        name: msgspec.structs.replace(
            pipeline,
            stages={
                each: _with_env_files(f"pipelines.{name}.stages.{each}", stage, found)
                for each, stage in pipeline.stages.items()
            },
        )
        for name, pipeline in config.pipelines.items()
    }
    sources = {
        scheme: _with_env_files(f"sources.{scheme}", adapter, found)
        for scheme, adapter in config.sources.items()
    }
    if found:
        raise ConfigError(found)
    return msgspec.structs.replace(config, pipelines=pipelines, sources=sources)


def _with_env_files(where: str, stage: S, problems: list[str]) -> S:
    paths = given(stage.env_file, [])
    if not paths:
        return stage
    from . import file as settings_file  # noqa: PLC0415
    from . import yaml_text as settings_yaml  # noqa: PLC0415

    env: dict[str, Any] = {}
    for place, path in enumerate(paths):
        try:
            env |= settings_file.env_file(Path(path))
        except settings_yaml.Unusable as exc:
            problems.append(f"{where}.env_file[{place}]: {exc}")
    return msgspec.structs.replace(stage, env=env | stage.env)


def _read(path: Path, *, again: bool) -> dict[str, Any]:
    from . import file as settings_file  # noqa: PLC0415  # 10 ms that --help need not pay
    from . import yaml_text as settings_yaml  # noqa: PLC0415

    try:
        data = settings_file.read(path, again=again)
    except settings_yaml.Unusable as exc:
        raise ConfigError(exc.problems, path) from exc
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        what = "the settings file must hold a mapping such as 'listen: 127.0.0.1:7733'"
        raise ConfigError([what], path)
    return data


def _lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it key by key; lists and scalars are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            _lay_over(below, value)
            if isinstance(below, dict) and isinstance(value, dict)
            else value
        )
    return merged
