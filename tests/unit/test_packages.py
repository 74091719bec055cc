# SPDX-License-Identifier: MIT
"""What is installed is all that there is: setup.cfg lists each package."""

from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "operatord": "operatord",
    "operatord_protocol": "protocol/operatord_protocol",
    "operatord_client": "client/operatord_client",
}


def test_each_package_is_installed() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    listed = set(settings["options"]["packages"].split())
    for name, place in FOLDERS.items():
        folder = ROOT / place
        for file in folder.rglob("__init__.py"):
            assert ".".join((name, *file.parent.relative_to(folder).parts)) in listed


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """pytest imports them by their names alone, and only when both are collected does it find out."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
