# SPDX-License-Identifier: MIT
"""Which images there are, and which of them are built."""

from __future__ import annotations

import sys

import pytest

from operatord import recipes
from operatord.engines.process.images import packaged_programs
from operatord.recipes import RECIPES, Recipe, chosen

USUAL = ["demo-probe", "demo-stream", "demo-segmentation", "operatord-stage"]


@pytest.fixture
def with_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = Recipe("operatord.adapters", "x", stands_on="operatord-stage", script="x.py")
    monkeypatch.setattr(recipes, "RECIPES", {**RECIPES, "operatord-made-up": made_up})


@pytest.mark.usefixtures("with_an_adapter")
def test_without_a_name_what_needs_no_packages_is_built() -> None:
    assert chosen([]) == USUAL


@pytest.mark.usefixtures("with_an_adapter")
def test_an_image_is_built_after_what_it_stands_on() -> None:
    assert chosen(["made-up"]) == ["operatord-stage", "operatord-made-up"]
    assert chosen(["operatord-made-up", "demo-probe"]) == [
        "demo-probe",
        "operatord-stage",
        "operatord-made-up",
    ]
    assert chosen(["all"]) == list(recipes.RECIPES)


def test_an_image_that_is_not_known_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="no image is called 'demo-prob'; did you mean 'demo-pro"):
        chosen(["demo-prob"])


@pytest.mark.parametrize("image", RECIPES)
def test_the_sources_of_each_image_are_there(image: str) -> None:
    folder = RECIPES[image].sources()
    assert (folder / "Dockerfile").is_file()
    base = "STAGE_IMAGE" if RECIPES[image].stands_on else "PYTHON_IMAGE"
    assert f"FROM ${{{base}}}" in (folder / "Dockerfile").read_text("utf-8")


def test_the_process_engine_runs_the_script_of_each_image() -> None:
    programs = packaged_programs()
    assert sorted(programs) == sorted(image for image in RECIPES if RECIPES[image].script)
    assert programs["demo-probe"][:2] == (sys.executable, "-EsS")
