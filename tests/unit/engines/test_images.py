# SPDX-License-Identifier: MIT
"""What is made of an engine's answer to an image that is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operatord import images


class Importer:
    """An engine that gives what it imports a tag of its own, as Podman 4.3 does, or the one it is told."""

    def __init__(self, heeds: bool, names: bool = True) -> None:
        self.heeds, self.names = heeds, names
        self.tags: dict[str, str] = {}

    def images(self, name: str | None = None) -> list[dict[str, str]]:
        return [{"Id": self.tags[name]}] if name in self.tags else []

    def import_image_from_stream(
        self, stream: Any, repository: str, tag: str, changes: list[str]
    ) -> str:
        stream.read()
        self.tags[f"{repository}:{tag if self.heeds else 'latest'}"] = "sha256:1"
        return '{"status":"sha256:1"}\n'

    def tag(self, image: str, repository: str, tag: str | None = None) -> None:
        if self.names:
            self.tags[f"{repository}:{tag}"] = image


@pytest.mark.parametrize("heeds", [True, False])
def test_imported_base_has_the_name_that_is_looked_for(tmp_path: Path, heeds: bool) -> None:
    """E12"""
    client: Any = Importer(heeds)
    images._import(client, tmp_path)
    assert client.tags[images.OWN_BASE] == "sha256:1"


def test_base_that_cannot_be_named_is_told(tmp_path: Path) -> None:
    """E12"""
    client: Any = Importer(heeds=False, names=False)
    with pytest.raises(images.ImageError, match="does not have it afterwards"):
        images._import(client, tmp_path)


def without_times(said: list[str]) -> list[str]:
    return [re.sub(r"\b[\d.]+ s\b", "N s", line) for line in said]


class Builder(Importer):
    """An engine that says what it does while it builds an image."""

    def build(self, path: str, tag: str, **_: Any) -> Iterator[dict[str, str]]:
        for line in ("Step 1/2 : FROM python\n", "\n", "Get:1 ffmpeg\nGet:2 libx\n"):
            yield {"stream": line}
        self.tags[tag] = "sha256:2"


def test_build_that_takes_long_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """N20: the engine's own words, every ten seconds."""
    client: Any = Builder(heeds=True)
    said: list[str] = []
    images._build_one(client, "demo-probe", images.RECIPES["demo-probe"], "python", said.append)
    assert without_times(said) == ["demo-probe: built (N s)"]
    monkeypatch.setattr(images, "SAY_EVERY", 0)
    client, said = Builder(heeds=True), []
    images._build_one(client, "demo-probe", images.RECIPES["demo-probe"], "python", said.append)
    assert without_times(said) == [
        "demo-probe: N s so far: Step 1/2 : FROM python",
        "demo-probe: N s so far: Get:2 libx",
        "demo-probe: built (N s)",
    ]


def test_base_that_takes_long_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """N20."""
    monkeypatch.setattr(images, "SAY_EVERY", 0)
    said: list[str] = []
    progress = images.Progress(said.append, "base image")
    images._run("sh", "-c", "echo I: Retrieving libc6; echo; echo done >&2", progress=progress)
    assert without_times(said) == [
        "base image: N s so far: I: Retrieving libc6",
        "base image: N s so far: done",
    ]
    with pytest.raises(images.ImageError, match="sh ended with 3: no space left"):
        images._run("sh", "-c", "echo no space left; exit 3", progress=progress)
    with pytest.raises(images.ImageError, match="could not be made"):
        images._run("/nowhere/debootstrap", progress=progress)


def test_pull_that_takes_long_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """N20."""
    monkeypatch.setattr(images, "SAY_EVERY", 0)
    words = [
        {"status": "Pulling from library/python", "id": "3.12"},
        {"id": "a1", "progress": "1/2"},
    ]

    class Registry(Importer):
        def pull(self, *_: Any, **__: Any) -> list[dict[str, str]]:
            return words

    client: Any = Registry(heeds=True)
    said: list[str] = []
    images._pull(client, "python:3.12", said.append)
    assert without_times(said) == [
        "base image: pulling python:3.12: N s so far: 3.12 Pulling from library/python",
        "base image: pulling python:3.12: N s so far: a1 1/2",
    ]
