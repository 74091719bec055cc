#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Segment the dark object in a stream and serve the frames with its mask.

Each frame: Otsu's threshold, a box majority filter against the speckle, then area, bounding box
and, where the probe tells the truth, the Dice coefficient. Frames get a second part, the mask of
0 and 255; as YUV4MPEG2 they get the mask's contour drawn into the picture. It takes pictures of
gray8 only.

With segmentation_ip unset nobody was told where the results are, so after 5 s without a consumer
the stream is taken all the same, and only reported; consumers may still join. With attached=True it
joins a stream that belongs to others: its consumers never begin it or hold it up, what is too much
is dropped and counted, and if nobody ever comes it ends with the stream.

Settings, all from the environment:

    stream_ip          name or address of the streaming server           (stream)
    stream_port        its port                                          (12346)
    segmentation_ip    name or address to listen on                      (0.0.0.0)
    segmentation_port  port to listen on, 0 for any free one             (12347)
"""

from __future__ import annotations

import contextlib
import sys
from functools import lru_cache

from masks import bounding_box, contour, dice, segment
from operatord_stage.ellipse import Ellipse, spans
from operatord_stage.headers import MOST_PARTS, parse_line, without_colour, y4m_frame
from operatord_stage.relay import Relay
from operatord_stage.sockets import listen
from operatord_stage.source import connect, rehearse
from operatord_stage.stage import encode, run, text
from operatord_stage.terms import TERMS_HELP, Settings, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from operatord_stage.source import Buffer, Extent, Render

ALONE_AFTER = 5.0
"""Seconds without a consumer after which the stream is taken all the same, if nobody said where to serve."""

outlines = lru_cache(maxsize=512)(spans)  # a probe's movement repeats


def with_mask(
    header: dict[str, Any], parts: memoryview, described: dict[str, object], mask: bytes
) -> bytes:
    """Return a frame with a mask behind its image, in place of one that it may have already."""
    found: list[tuple[dict[str, object], Buffer]] = []
    offset = 0
    for part in header["parts"]:
        payload, offset = parts[offset : offset + part["bytes"]], offset + part["bytes"]
        if part["name"] != "mask":
            found.append((part, payload))
        if part["name"] == "image":
            found.append((described, mask))
    if len(found) > MOST_PARTS:  # so that one has to go
        names = [part["name"] for part, _ in found]
        del found[max(at for at, name in enumerate(names) if name not in ("image", "mask"))]
    header["parts"] = [part for part, _ in found]
    return b"".join((encode(header), *(payload for _, payload in found)))


class Segmenter:
    """Render frames with their masks and keep the score."""

    def __init__(self, hello: dict[str, Any], *, y4m: bool, chroma: str = "mono") -> None:
        self.width, self.height, self.y4m = hello["width"], hello["height"], y4m
        self.behind = without_colour(hello, chroma)
        self.scored = 0
        self.dice_sum = 0.0
        self.figures: dict[str, object] = {}  # for the report

    def render(self, block: memoryview, frame: Extent) -> Buffer:
        """Return a frame with its mask as one more part, or drawn into the picture."""
        header = parse_line(bytes(block[frame.start : frame.body]))
        picture = bytes(block[frame.image : frame.behind])
        mask = segment(picture, self.width, self.height)
        part = self._describe(mask, self._outline(header.get("truth")))
        if self.y4m:
            lanes = int.from_bytes(picture, "little") | contour(mask, self.width)
            return y4m_frame(header) + lanes.to_bytes(len(picture), "little") + self.behind
        return with_mask(header, block[frame.body : frame.stop], part, mask)

    def _outline(self, truth: Any) -> list[tuple[int, int]] | None:
        """Return the object's true spans; None if the probe does not tell, or means something else by it."""
        with contextlib.suppress(TypeError, ValueError, ArithmeticError):
            return outlines(Ellipse(**truth), self.width, self.height)
        return None

    def _describe(self, mask: bytes, outline: list[tuple[int, int]] | None) -> dict[str, object]:
        """Return the header's part for a mask, and score it if the truth is known."""
        part: dict[str, object] = {"name": "mask", "bytes": len(mask), "area": mask.count(255)}
        part["bbox"] = bounding_box(mask, self.width)
        if outline is not None:
            score = dice(mask, outline)
            part["dice"] = round(score, 4)
            self.scored += 1
            self.dice_sum += score
            self.figures["dice_mean"] = round(self.dice_sum / self.scored, 4)
        return part


def serve(last_words: list[Callable[[], None]]) -> None:
    """Segment one stream from its hello to its end."""
    settings = Settings(("stream", 12346), ("segmentation", 12347))
    listener = listen("segmentation", settings.host, settings.port, settings.connect_timeout)
    source = connect(settings, formats=("gray8",))
    segmenter = Segmenter(source.hello, y4m=settings.y4m, chroma=settings.chroma)
    terms = Terms("segmentation", settings, source.hello)
    if not (settings.attached or text("segmentation_ip", "")):
        terms.go_alone(ALONE_AFTER)
    relay = Relay(source, listener, terms, segmenter.render)
    relay.reports.figures = segmenter.figures
    relay.run(last_words)


def prepare(hello: dict[str, Any]) -> Render:
    """Return what a rehearsal renders its frame with."""
    return Segmenter(hello, y4m=False).render


if __name__ == "__main__":
    sys.exit(run("segmentation", __doc__ + TERMS_HELP, serve, lambda: rehearse(prepare)))
