# SPDX-License-Identifier: MIT
"""What was seen in a trial, as plain data: this is all that verdicts follow from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec

from operatord.engines.base import LogLine
from operatord_protocol.stage_lines import object_in


class Reading(msgspec.Struct, frozen=True):
    """What one connection to the stage was sent. Times are in seconds since it was made."""

    wire: Literal["nothing", "json", "other"] = "nothing"
    hello: Mapping[str, Any] = {}
    """The first line; empty if it is no JSON object."""
    hello_after: float | None = None
    seqs: Sequence[int] = ()
    """The numbers of the whole frames that came."""
    first_after: float | None = None
    """When the first whole frame had come."""
    end: tuple[int, int] | None = None
    """Frames and dropped frames by its end."""
    closed: bool = False
    """Whether the stage has closed the connection."""
    fault: str = ""
    """What broke the stream format, or the connection."""
    bytes: int = 0
    greeting: str = ""
    """The first line of another protocol, or its beginning."""
    parts: Sequence[str] = ()
    """The names of the first frame's parts."""
    served: bool = False
    """Whether it was sent more than a greeting."""

    @property
    def is_greeted(self) -> bool:
        """Whether it began as a stream does, or speaks another protocol."""
        begun = not self.fault or bool(self.seqs)  # what went wrong after frames is not the hello
        return self.wire == "other" or (self.hello.get("type") == "hello" and begun)

    @property
    def is_in_order(self) -> bool:
        """Whether each frame came once, in the order of their numbers."""
        return all(one < other for one, other in pairwise(self.seqs))

    @property
    def is_gapless(self) -> bool:
        """Whether frames came one after the other, whichever the first was."""
        first = self.seqs[0] if self.seqs else 0
        return list(self.seqs) == list(range(first, first + len(self.seqs)))


class Fed(msgspec.Struct, frozen=True):
    """What the upstream has seen of the stage."""

    connections: int = 0
    frames: int = 0
    """That it has sent."""
    taken: int = 0
    """Bytes of frames that have arrived at the stage's machine."""
    ended: bool = False
    """Whether it has sent its end."""
    heard: str = ""
    """What the stage has said to it."""
    flooded: bool = False
    """Whether the stage has said, or connected, more than an upstream reads."""


class Ending(msgspec.Struct, frozen=True):
    """How the stage ended."""

    code: int | None = None
    """None: it still ran when the trial was over."""
    seconds: float = 0.0
    """Since it was expected to end."""
    oom: bool = False


class Seen(msgspec.Struct, frozen=True):
    """One trial."""

    readings: Mapping[str, Reading] = {}
    """By what the connection was for."""
    fed: Fed = Fed()
    ending: Ending = Ending()
    output: Sequence[LogLine] = ()
    measured: Mapping[str, float] = {}
    """What else was measured, by name."""

    def reading(self, name: str) -> Reading:
        """Return what a connection was sent; nothing if there was none."""
        return self.readings.get(name, Reading())

    @property
    def lines(self) -> list[Mapping[str, Any]]:
        """The JSON objects on its standard output."""
        said = [object_in(line.line) for line in self.output if line.stream == "stdout"]
        return [each for each in said if each]

    @property
    def counted(self) -> int | None:
        """The frames that its last report counts; None if there is none."""
        said = [line.get("frames") for line in self.lines if line.get("type") == "report"]
        return said[-1] if said and isinstance(said[-1], int) else None

    @property
    def sentence(self) -> str:
        """The last line on its standard error, shortened; empty if there is none."""
        errors = [
            line.line for line in self.output if line.stream == "stderr" and line.line.strip()
        ]
        return errors[-1].strip()[:200] if errors else ""
