# SPDX-License-Identifier: MIT
"""By its folder it is known what a check has left, and whether it goes on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from operatord.conformance.leftovers import MARK, PREFIX, Left, left_over, marked_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leave(place: Path, text: str) -> Path:
    """Have a folder there that nobody has locked."""
    folder = place / f"{PREFIX}left"
    folder.mkdir()
    (folder / MARK).write_text(text)
    return folder


def test_a_check_that_goes_on_has_left_nothing(place: Path) -> None:
    with marked_folder("check-0123abcd", "unix:///run/docker.sock") as folder:
        assert (folder / MARK).read_text() == "check-0123abcd\nunix:///run/docker.sock\n"
        assert list(left_over()) == []
    assert list(place.iterdir()) == []


def test_one_that_was_killed_has(place: Path) -> None:
    folder = leave(place, "check-0123abcd\nunix:///run/docker.sock\n")
    assert list(left_over()) == [Left(folder, "check-0123abcd", "unix:///run/docker.sock")]


@pytest.mark.parametrize("text", ["", "lab-7\n", "check-0123abcde\n", "check-../\n", "\0" * 9000])
def test_what_is_no_instance_of_a_check_is_left_alone(place: Path, text: str) -> None:
    leave(place, text)
    assert list(left_over()) == []


def test_a_folder_of_somebody_elses_is_left_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(place, "check-0123abcd\n")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert list(left_over()) == []
