# SPDX-License-Identifier: MIT
"""Filters and sinks: a function that is called with each frame of the upstream."""

from __future__ import annotations

from collections.abc import Mapping

from operatord_stage.serving.calling import calling, name_of
from operatord_stage.serving.frame import Frame
from operatord_stage.serving.outline import outlined
from operatord_stage.serving.results import Results, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from typing_extensions import Buffer as Bytes

    from operatord_stage.dialect import Dialect
    from operatord_stage.serving.frame import Part
    from operatord_stage.serving.results import Content
    from operatord_stage.source import Buffer, Extent

    FilterFunction: TypeAlias = Callable[[Frame], Frame | Mapping[str, Bytes | Part]]
    """Returns the frame as it is, another one in its place, or parts that it gets by their names."""
    SinkFunction: TypeAlias = Callable[[Frame], object]
    """Takes a frame; what it returns is not looked at."""


class Filter:
    """Renders what a function makes of the frames."""

    def __init__(
        self, function: FilterFunction, wire: Dialect, said: dict[str, Any], hello: dict[str, Any]
    ) -> None:
        """`said` is the upstream's hello, and `hello` the one of this stage."""
        self._function, self._wire, self._said, self._hello = function, wire, said, hello
        self._results = Results(f"{name_of(function)}()", "returned", hello)

    def render(self, block: memoryview, extent: Extent) -> Buffer:
        """Return what consumers are sent for a frame. Raises `Fault`."""
        frame = Frame.received(block, extent, self._said)
        result = calling(self._function, frame, where=f"frame {frame.seq}")
        if result is frame and self._said is self._hello:
            return self._wire.passed_on(block, extent)
        header, parts = self._content(frame, result)
        if self._wire.draws:
            parts = {**parts, "image": outlined(parts, self._hello)}
        return calling(self._wire.frame, header, parts, where=f"frame {frame.seq}")

    def _content(self, frame: Frame, result: object) -> Content:
        if result is frame:
            return self._results.extended(frame, {})
        if isinstance(result, Frame):
            return self._results.made(result, frame.seq, frame.pts)
        if isinstance(result, Mapping):
            return self._results.extended(frame, result)
        raise self._results.wrong(
            frame.seq,
            f"{shown(result)}: it must return the frame, or a dict of the parts that the frame gets, "
            'such as {"mask": mask}',
        )


class Sink:
    """Gives a function the frames, and passes them on as they are."""

    def __init__(self, function: SinkFunction, wire: Dialect, said: dict[str, Any]) -> None:
        self._function, self._wire, self._said = function, wire, said

    def render(self, block: memoryview, extent: Extent) -> Buffer:
        """Return what consumers are sent for a frame. Raises `Fault`."""
        frame = Frame.received(block, extent, self._said)
        calling(self._function, frame, where=f"frame {frame.seq}")
        return self._wire.passed_on(block, extent)
