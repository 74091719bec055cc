# SPDX-License-Identifier: MIT
"""The pictures of the probe: speckled tissue in which a dark ellipse moves."""

from __future__ import annotations

import json
import math
import random
from functools import lru_cache

from operatord_stage.ellipse import Ellipse, spans

CACHE_BYTES = 16 * 1024 * 1024
"""Memory for rendered pictures."""
CYCLE = 120
"""Frames after which the picture repeats, if the cache holds so many."""


def speckle_levels(decibels: float) -> bytes:
    """Return the grey level for each of 256 equally likely values of the noise.

    Fully developed speckle has a Rayleigh-distributed amplitude (Burckhardt 1978), here drawn by
    inverting its distribution function, scaled (multiplied) by the tissue's echogenicity and
    then log-compressed to 60 dB as scanners do. 0 dB becomes level 180.
    """
    levels = []
    for value in range(256):
        amplitude = math.sqrt(-2 * math.log(1 - (value + 0.5) / 256))
        level = 180 + 255 * (20 * math.log10(amplitude) + decibels) / 60
        levels.append(min(255, max(0, round(level))))
    return bytes(levels)


TISSUE = speckle_levels(0)
CYST = speckle_levels(-18)


class Cycle:
    """The pictures of one movement, rendered when first asked for and then kept."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        self.width, self.height, self.seed = width, height, seed
        self.length = max(2, min(CYCLE, CACHE_BYTES // (width * height)))
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def frame(self, seq: int) -> tuple[bytes, bytes]:
        """Return frame seq's truth as JSON and its picture, width x height bytes."""
        index = seq % self.length
        if index not in self._frames:  # two threads may both render it, alike
            shape = self.shape(index)
            truth = json.dumps(shape._asdict(), separators=(",", ":")).encode()
            self._frames[index] = truth, self.render(index, shape)
        return self._frames[index]

    def shape(self, index: int) -> Ellipse:
        """Return where the ellipse is, rounded so that the header tells it exactly."""
        phase = 2 * math.pi * index / self.length
        return Ellipse(
            cx=round(self.width * (0.5 + 0.14 * math.cos(phase)), 2),
            cy=round(self.height * (0.5 + 0.12 * math.sin(phase)), 2),
            rx=round(self.width * (0.24 + 0.02 * math.sin(2 * phase)), 2),
            ry=round(self.height * (0.17 + 0.02 * math.cos(3 * phase)), 2),
            angle=round(0.5 * math.sin(phase), 4),
        )

    def render(self, index: int, shape: Ellipse) -> bytes:
        """Return speckled tissue with the dark ellipse; a grain is two pixels wide."""
        size = self.width * self.height
        grains = random.Random(self.seed * CYCLE + index).randbytes((size + 1) // 2)
        noise = bytearray(2 * len(grains))
        noise[0::2] = noise[1::2] = grains
        picture, dark = noise[:size].translate(TISSUE), noise.translate(CYST)
        for start, stop in spans(shape, self.width, self.height):
            picture[start:stop] = dark[start:stop]
        return bytes(picture)


cycles = lru_cache(maxsize=1)(Cycle)
