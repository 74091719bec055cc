# SPDX-License-Identifier: MIT
"""What the process engine runs where a plan names one of the images that come with operatord."""

from __future__ import annotations

import sys

from operatord.recipes import RECIPES, Recipe


def packaged_programs() -> dict[str, tuple[str, ...]]:
    """Return the argument list for each image whose script is there."""
    programs = {image: _program(recipe) for image, recipe in RECIPES.items()}
    return {image: program for image, program in programs.items() if program is not None}


def _program(recipe: Recipe) -> tuple[str, ...] | None:
    """Return what runs in an image's container; None if nothing does, or its script is not there.

    No variables (-E) and no user's packages (-s). -I would also remove the script's folder from the path,
    and with it the modules beside it. What stands on the Python base alone runs without site (-S), as in its
    image; what stands on another image needs packages, and `operatord_stage` is installed with operatord.
    """
    script = recipe.sources() / recipe.script if recipe.script else None
    if script is None or not script.is_file():
        return None
    return (sys.executable, "-Es" if recipe.stands_on else "-EsS", str(script))
