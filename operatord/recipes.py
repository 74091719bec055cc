# SPDX-License-Identifier: MIT
"""The images that come with operatord: where the sources of each lie, and on what it stands.

A new image is one more line of `RECIPES`. The sources travel in the wheel: each package named here has its
folders as package data (setup.cfg).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from operatord_protocol.checking import suggestion

STAGE_IMAGE = "operatord-stage"
"""The image that others stand on: the Python base with `operatord_stage`."""
ALL = "all"
"""Asks for every image."""


class Recipe(NamedTuple):
    """How an image is built."""

    package: str
    """The package that has its sources."""
    folder: str = ""
    """The folder of its Dockerfile in there; empty for the package's own folder."""
    stands_on: str | None = None
    """The image of ours that it stands on (build argument STAGE_IMAGE); None: the Python base."""
    script: str | None = None
    """What its container runs, in its folder; None for an image that others stand on."""

    @property
    def downloads(self) -> bool:
        """Whether its Dockerfile installs packages of the distribution, and so needs the host's network."""
        return self.stands_on is not None

    def sources(self) -> Path:
        """Return the folder of its Dockerfile: where it is installed, or else in the checkout."""
        spec = importlib.util.find_spec(self.package)
        installed = list(spec.submodule_search_locations or ()) if spec is not None else []
        # `operatord.emulators` is the checkout's folder `emulators`; an environment that was made before
        # the package was there does not know that.
        name = self.package.removeprefix("operatord.")
        beside = Path(__file__).parents[1] / name
        places = [place / self.folder for place in (*map(Path, installed), beside)]
        return next((place for place in places if place.is_dir()), places[-1])


RECIPES: Mapping[str, Recipe] = {
    "demo-probe": Recipe("operatord.emulators", "probe", script="probe.py"),
    "demo-stream": Recipe("operatord.emulators", "streaming", script="streaming.py"),
    "demo-segmentation": Recipe("operatord.emulators", "segmentation", script="segmentation.py"),
    STAGE_IMAGE: Recipe("operatord.stage"),
    "operatord-camera": Recipe(
        "operatord.adapters", "camera", stands_on=STAGE_IMAGE, script="camera.py"
    ),
    "operatord-openigtlink-in": Recipe(
        "operatord.adapters", "openigtlink-in", STAGE_IMAGE, "openigtlink_in.py"
    ),
    "operatord-openigtlink-out": Recipe(
        "operatord.adapters", "openigtlink-out", STAGE_IMAGE, "openigtlink_out.py"
    ),
}
"""How each image is built, by its name; what others stand on comes before them."""

EMULATORS = tuple(name for name in RECIPES if name.startswith("demo-"))
"""The images of the demo."""
USUAL = (*EMULATORS, STAGE_IMAGE)
"""What is built where nothing is asked for: all that needs no package from elsewhere."""


def short_name(image: str) -> str:
    """Return what an image is called on the command line."""
    return image.removeprefix("operatord-")


def chosen(names: Iterable[str]) -> list[str]:
    """Return the images that are asked for, with those that they stand on, in the order of building.

    Names are those of the images, with or without `operatord-`, or `all`; none are the usual ones.

    Raises:
        ValueError: no image has this name; the text is a sentence.
    """
    wanted: set[str] = set()
    for name in names:
        found = [image for image in RECIPES if name in (image, short_name(image), ALL)]
        if not found:
            raise ValueError(
                f"no image is called {name!r}{suggestion(name, [*map(short_name, RECIPES), ALL])}"
            )
        wanted.update(found)
    wanted |= {base for image in wanted if (base := RECIPES[image].stands_on)}
    return [image for image in RECIPES if image in (wanted or USUAL)]
