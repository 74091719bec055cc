# SPDX-License-Identifier: MIT
"""What is made of an engine's answer to an image that is imported."""

from __future__ import annotations

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
