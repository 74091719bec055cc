# SPDX-License-Identifier: MIT
"""Find the largest dark object in each picture that does not reach its sides: around a fan there is black.

smoothing          of the picture, in pixels: 0 to 20                (2)
threshold          grey level up to which a pixel is dark            (140)
"""

import numpy
from scipy import ndimage

import operatord_stage as stage

settings: dict[str, int] = {}


def prepare() -> None:
    """Read the settings, which may come late: in a warm slot, all that is above has happened by then."""
    settings["smoothing"] = stage.number("smoothing", 2, 0, 20)
    settings["threshold"] = stage.number("threshold", 140, 0, 255)


def segment(frame: stage.Frame) -> dict[str, stage.Part]:
    """Return the mask that the frame gets, with its area and its centre in pixels."""
    picture = numpy.frombuffer(frame.image, numpy.uint8).reshape(frame.height, frame.width)
    dark = ndimage.gaussian_filter(picture, settings["smoothing"]) <= settings["threshold"]
    labels, _ = ndimage.label(dark)
    areas = numpy.bincount(labels.flat)
    areas[numpy.r_[0, labels[0], labels[-1], labels[:, 0], labels[:, -1]]] = 0
    if not areas.any():
        return {"mask": stage.Part(numpy.zeros_like(dark), area=0)}
    mask = labels == areas.argmax()
    y, x = ndimage.center_of_mass(mask)
    return {"mask": stage.Part(mask, area=areas.max(), center=[round(x, 1), round(y, 1)])}


stage.serve(segment, prepare=prepare, formats=("gray8",))
