# SPDX-License-Identifier: MIT
"""`operatord check-config` and `operatord config`: print the settings."""

from __future__ import annotations

import argparse
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .exits import EXIT_USAGE, say
from .settings import add_settings, load_settings


def add_check_config(commands: Any) -> None:
    """Add `operatord check-config` and its options."""
    text = "Check the settings that `serve` would use with the same options, and print them."
    check = commands.add_parser(
        "check-config", help="check and print the settings", description=text
    )
    check.add_argument(
        "file", nargs="?", metavar="FILE", type=Path, help="the same as --config FILE"
    )
    check.add_argument("-q", "--quiet", action="store_true", help="check only, print nothing")
    add_settings(check)
    check.set_defaults(run=_check_config)


def add_config(commands: Any) -> None:
    """Add `operatord config` and its options."""
    text = "Print the settings that `serve` would use with the same options, or an example file."
    config = commands.add_parser("config", help="print the settings", description=text)
    config.add_argument(
        "--example", action="store_true",
        help="print a settings file with every key, its default and what it is for",
    )  # fmt: skip
    add_settings(config)
    config.set_defaults(run=_config, quiet=False)


def _config(args: argparse.Namespace) -> int:
    if not args.example:
        return _check_config(args)
    from importlib.resources import files  # noqa: PLC0415

    print(files("operatord").joinpath("operatord.yaml").read_text("utf-8"), end="")  # noqa: T201
    return 0


def _check_config(args: argparse.Namespace) -> int:
    config = load_settings(args, to_serve=True)
    if config is None:
        return EXIT_USAGE
    from operatord.settings.checks import cautions  # noqa: PLC0415
    from operatord.settings.credentials import certificate_warnings, load  # noqa: PLC0415

    certificates = certificate_warnings(config, load(config), time.time())
    risks = (*config.clear_doors, *certificates, *cautions(config), *_secret_warnings(config))
    for warning in risks:
        say(warning)
    if not args.quiet:
        import yaml  # noqa: PLC0415

        from operatord.settings.config import to_dict  # noqa: PLC0415

        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")  # noqa: T201
    return 0


def _secret_warnings(config: Any) -> Iterator[str]:
    """Yield what is wrong with the files of secrets, if the engine is on this machine."""
    from operatord.settings.choice import engine_endpoint, engine_host  # noqa: PLC0415

    if engine_endpoint(config, os.environ) is None or engine_host(config, os.environ) is not None:
        return
    for where, stage in _stages(config):
        for secret, path in (stage.secrets or {}).items():
            if problem := _secret_problem(path, stage):
                yield f"{where}.secrets.{secret}: {problem}"


def _stages(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield all stages with where the settings have them."""
    for name, pipeline in config.pipelines.items():
        for stage_name, stage in pipeline.stages.items():
            yield f"pipelines.{name}.stages.{stage_name}", stage
    for scheme, adapter in config.sources.items():
        yield f"sources.{scheme}", adapter


def _secret_problem(path: str, stage: Any) -> str | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError as exc:
        return (
            f"{path}: {exc.strerror}; if the engine's machine does not have it, starts are refused"
        )
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is no regular file"
    user = {"root": "0"}.get(name := str(stage.user or "").partition(":")[0], name)
    if found.st_mode & 0o044 or user == str(found.st_uid):
        return None
    if user.isdecimal() or (not user and found.st_uid == 0):
        runs = f"as {user}" if user else "without root's rights"
        return f"only the user {found.st_uid} can read {path}, and the stage runs {runs}; chown it"
    return None
