# SPDX-License-Identifier: MIT
"""The pictures of the probe: a sector of layered tissue with speckle, in which a dark cyst moves.

A scanner with a curved array sees a fan; what is outside of it is black. Pixels are drawn in two steps: a
byte for each has its layer of tissue and the noise of its speckle, and a table turns that into a grey level.
"""

from __future__ import annotations

import json
import math
import random
from functools import lru_cache

from operatord_stage.ellipse import Ellipse, spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_BYTES = 16 * 1024 * 1024
"""Memory for rendered pictures."""
CYCLE = 120
"""Frames after which the picture repeats, if the cache holds so many."""

APEX = -0.12
"""Where the fan's sides meet: so far above the picture, in heights of it."""
FROM, TO = 0.2, 1.1
"""Radii of the fan's arcs, likewise."""
SLOPE = 0.92
"""Of the fan's sides: the tangent of its half angle."""

NOISE_BITS = 5
"""Of a pixel's byte; the others say in which tissue it is."""
NOISES = 1 << NOISE_BITS
ECHOES = (-4.5, -3.0, -1.5, 0.0, 2.0, 4.0, 7.0)
"""Decibels of the tissues 1, 2, …; 0 is outside of the fan."""
LAYERS = (
    (0.03, 6, 0.0),  # skin
    (0.10, 2, 0.01),  # fat
    (0.12, 7, 0.02),  # fascia
    (0.17, 3, 0.02),  # muscle, with its septa
    (0.18, 5, 0.01),
    (0.24, 3, 0.0),
    (0.26, 6, -0.02),  # the organ's capsule
    (0.62, 4, -0.03),  # the organ
    (0.78, 3, 0.0),  # and what the gain does not make up for
    (0.80, 5, 0.05),
    (0.90, 2, 0.05),
    (1.00, 1, 0.0),
)
"""Down to which depth, as a share of the fan's, there is which tissue; how far to the side its arc lies."""
CYST, EDGE, BEHIND = -18.0, -9.0, 3.0
"""Decibels: a cyst's own; what its edge and what lies behind it, where nothing weakened the sound, add."""
SOFT = 1.5
"""Pixels from a cyst's outline to where its edge begins, and to where it ends."""


def grey(noise: int, decibels: float) -> int:
    """Return the grey level for one of `NOISES` equally likely values of the noise; 0 dB is about 180.

    Fully developed speckle has a Rayleigh-distributed amplitude (Burckhardt 1978), here drawn by
    inverting its distribution function, scaled (multiplied) by the tissue's echogenicity and
    then log-compressed to 60 dB as scanners do. Black is for what is not seen at all.
    """
    amplitude = math.sqrt(-2 * math.log(1 - (noise + 0.5) / NOISES))
    level = 180 + 255 * (20 * math.log10(amplitude) + decibels) / 60
    return min(255, max(1, round(level)))


def levels(tissues: tuple[float, ...]) -> bytes:
    """Return the grey level for each byte, with these echoes of the tissues 1, 2, …"""
    seen = [grey(noise, echo) for echo in tissues for noise in range(NOISES)]
    return bytes([0] * NOISES + seen)


TISSUE = levels(ECHOES)
BRIGHTER = levels(tuple(echo + BEHIND for echo in ECHOES))
DARKER = levels(tuple(echo + EDGE for echo in ECHOES))
DARK = levels((CYST,) * len(ECHOES))


def tissues(width: int, height: int) -> bytes:
    """Return in which tissue each pixel is, in the upper bits of its byte."""
    return b"".join(_row((y + 0.5) / height - APEX, width) for y in range(height))


def _row(down: float, width: int) -> bytes:
    """Return a row of that, which is so far below the apex; its layers lie on one another like discs."""
    row = bytearray(width)
    for depth, tissue, aside in (*reversed(LAYERS), (0.0, 0, 0.0)):
        square = (FROM + depth * (TO - FROM)) ** 2 - down * down
        if square > 0:
            start, stop = _pixels(0.5 + aside, math.sqrt(square), width)
            row[start:stop] = bytes((tissue << NOISE_BITS,)) * (stop - start)
    start, stop = _pixels(0.5, SLOPE * down, width)
    row[:start], row[stop:] = bytes(start), bytes(width - stop)
    return bytes(row)


def _pixels(middle: float, half: float, width: int) -> tuple[int, int]:
    """Return the first of the pixels whose middles are in there, and the one after the last."""
    start = min(width, max(0, math.ceil((middle - half) * width - 0.5)))
    return start, max(start, min(width, math.floor((middle + half) * width - 0.5) + 1))


class Cycle:
    """The pictures of one movement, rendered when first asked for and then kept."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        self.width, self.height, self.seed = width, height, seed
        self.length = max(2, min(CYCLE, CACHE_BYTES // (width * height)))
        self._frames: dict[int, tuple[bytes, bytes]] = {}
        size = width * height
        self._tissues = int.from_bytes(tissues(width, height), "little")
        self._noises = int.from_bytes(bytes((NOISES - 1,)) * size, "little")

    def frame(self, seq: int) -> tuple[bytes, bytes]:
        """Return frame seq's truth as JSON and its picture, width x height bytes."""
        index = seq % self.length
        if index not in self._frames:  # two threads may both render it, alike
            shape = self.shape(index)
            truth = json.dumps(shape._asdict(), separators=(",", ":")).encode()
            self._frames[index] = truth, self.render(index, shape)
        return self._frames[index]

    def shape(self, index: int) -> Ellipse:
        """Return where the cyst is, rounded so that the header tells it exactly."""
        phase = 2 * math.pi * index / self.length
        return Ellipse(
            cx=round(self.width * (0.5 + 0.14 * math.cos(phase)), 2),
            cy=round(self.height * (0.5 + 0.12 * math.sin(phase)), 2),
            rx=round(self.width * (0.24 + 0.02 * math.sin(2 * phase)), 2),
            ry=round(self.height * (0.17 + 0.02 * math.cos(3 * phase)), 2),
            angle=round(0.5 * math.sin(phase), 4),
        )

    def render(self, index: int, shape: Ellipse) -> bytes:
        """Return speckled tissue with the cyst, whose edges are soft; a grain is two pixels wide."""
        drawn = self._speckled(index)
        picture = bytearray(drawn.translate(TISSUE))
        soft = min(SOFT, shape.rx / 4, shape.ry / 4)
        outer = spans(_grown(shape, soft), self.width, self.height)
        inner = spans(_grown(shape, -soft), self.width, self.height)
        for table, places in (
            (BRIGHTER, self._behind(shape, outer)),
            (DARKER, outer),
            (DARK, inner),
        ):
            other = drawn.translate(table)
            for start, stop in places:
                picture[start:stop] = other[start:stop]
        return bytes(picture)

    def _speckled(self, index: int) -> bytes:
        """Return each pixel's tissue and noise."""
        size = self.width * self.height
        grains = random.Random(self.seed * CYCLE + index).randbytes((size + 1) // 2)
        noise = bytearray(2 * len(grains))
        noise[0::2] = noise[1::2] = grains
        drawn = int.from_bytes(noise[:size], "little") & self._noises | self._tissues
        return drawn.to_bytes(size, "little")

    def _behind(self, shape: Ellipse, places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield where sound comes to that has crossed the cyst: from its middle on, and no further aside."""
        top, middle = APEX * self.height, self.width / 2
        left, right = math.inf, -math.inf
        for start, stop in places:
            y, x = divmod(start, self.width)
            left = min(left, (x - middle) / (y + 0.5 - top))
            right = max(right, (x + stop - start - middle) / (y + 0.5 - top))
        for y in range(max(0, round(shape.cy)), self.height if places else 0):
            down = y + 0.5 - top
            start = min(self.width, max(0, round(middle + left * down)))
            stop = min(self.width, max(start, round(middle + right * down)))
            yield y * self.width + start, y * self.width + stop


def _grown(shape: Ellipse, pixels: float) -> Ellipse:
    return shape._replace(rx=shape.rx + pixels, ry=shape.ry + pixels)


cycles = lru_cache(maxsize=1)(Cycle)
