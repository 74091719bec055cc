# SPDX-License-Identifier: MIT
"""`operatord check-config` and `operatord config`: print the settings."""

from __future__ import annotations

import argparse
import time
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
    from operatord.settings.credentials import certificate_warnings, load  # noqa: PLC0415

    for warning in certificate_warnings(config, load(config), time.time()):
        say(warning)
    if not args.quiet:
        import yaml  # noqa: PLC0415

        from operatord.settings.config import to_dict  # noqa: PLC0415

        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")  # noqa: T201
    return 0
