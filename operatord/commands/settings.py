# SPDX-License-Identifier: MIT
"""The options that stand for settings, and the settings that they lead to."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from operatord.core.engine_kinds import KINDS

from .exits import say

SYSTEM_CONFIG = Path("/etc/operatord/operatord.yaml")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that stand for settings, and ``--config``."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path,
        help=f"settings file (default: $OPERATORD_CONFIG, else {SYSTEM_CONFIG} if it is there)",
    )  # fmt: skip
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="TCP address; port 0 picks a free one"
    )
    parser.add_argument("--unix", metavar="PATH", help="listen on a Unix socket as well")
    parser.add_argument(
        "--engine", choices=tuple(KINDS),
        help="where stages run: containers of the engine that is named or found, or local processes",
    )  # fmt: skip
    parser.add_argument(
        "--state-dir", metavar="DIR", help="where state that survives a restart is kept"
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", choices=("auto", "text", "json"), help="the log on stderr")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given on the command line; None where they were not."""
    options: dict[str, Any] = {
        name: getattr(args, name) for name in ("listen", "unix", "engine", "state_dir")
    }
    log = {"level": args.log_level, "format": args.log_format}
    given = {key: value for key, value in log.items() if value is not None}
    return {**options, "log": given or None}


def config_file(args: argparse.Namespace) -> Path | None:
    """Return the path of the settings file, or None where there is none."""
    chosen = getattr(args, "file", None) or args.config
    if chosen is not None:
        return Path(chosen)
    if path := os.environ.get("OPERATORD_CONFIG"):
        return Path(path)
    return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None


def load_settings(args: argparse.Namespace, *, to_serve: bool = False) -> Any:
    """Return the settings, or None after having said what is wrong with them.

    ``to_serve`` has names looked up that a daemon needs, and files read.
    """
    from operatord.settings import credentials  # noqa: PLC0415
    from operatord.settings.advertised import advertised  # noqa: PLC0415
    from operatord.settings.choice import engine_endpoint, engine_host  # noqa: PLC0415
    from operatord.settings.config import ConfigError  # noqa: PLC0415
    from operatord.settings.http import lacks_extra  # noqa: PLC0415
    from operatord.settings.loading import load, with_env_files  # noqa: PLC0415
    from operatord.settings.variables import in_small_letters, not_settings  # noqa: PLC0415

    for name in not_settings(os.environ):
        say(
            f"{name} is not a setting, and is ignored; `operatord check-config` prints all settings"
        )
    for name in in_small_letters(os.environ):
        say(f"{name} is ignored: settings are in capital letters, {name.upper()}")
    try:
        config = load(config_file(args), os.environ, given_settings(args))
        engine_endpoint(config, os.environ)
        if to_serve:
            advertised(config, engine_host(config, os.environ))
            credentials.load(config)
            with_env_files(config)
            if lacks := lacks_extra(config.http):
                raise ConfigError([lacks])
        return config
    except ConfigError as exc:
        for problem in exc.problems:
            say(f"{exc.path}: {problem}" if exc.path else problem)
        return None


def endpoint_of(engine: str) -> Any:
    """Return where the environment has the engine, or None after having said what is wrong with that."""
    from operatord.settings.choice import DEFAULT, engine_endpoint  # noqa: PLC0415
    from operatord.settings.config import ConfigError  # noqa: PLC0415
    from operatord.settings.loading import from_dict  # noqa: PLC0415

    try:
        return engine_endpoint(from_dict({"engine": engine}), os.environ) or DEFAULT
    except ConfigError as exc:
        say(f"{exc.path}: {exc}" if exc.path else str(exc))
        return None
