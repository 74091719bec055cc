# SPDX-License-Identifier: MIT
"""The frames between the upstream and the consumers: read, kept to be sent again, or dropped."""

from __future__ import annotations

from operatord_stage.headers import blame_upstream
from operatord_stage.terms import NO_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from operatord_stage.source import Buffer, Extent, Render, Upstream
    from operatord_stage.terms import Terms

KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of frames that are kept at the most: more are not read until they are released."""


class Backlog:
    """The frames that were read from the upstream and are not passed on for good.

    Fresh frames were just read and are not sent yet. While no peer is sure to be a consumer, frames
    that are sent are kept, to be sent again to the next peer; they count as passed on when they are
    released.
    """

    def __init__(self, source: Upstream, terms: Terms, render: Render) -> None:
        self.source = source
        self.keeping = True  # frames that are sent are kept
        self.kept: list[bytes] = []  # rendered
        self.passed = 0  # frames that nobody will be sent any more
        self.released_any = False  # a consumer has been sent frames that were kept
        self._limit, self._render = terms.limit, render
        self._kept_bytes = 0
        self._fresh: list[Extent] = []
        self._newest: tuple[memoryview, Extent] | None = None  # of what was dropped

    @property
    def sent(self) -> int:
        """How many frames were passed on, or sent and kept."""
        return self.passed + len(self.kept)

    @property
    def is_full(self) -> bool:
        """Whether no more frames can be kept."""
        return self._kept_bytes >= KEPT_BYTES

    @property
    def is_over(self) -> bool:
        """Whether no frames will be sent but those that are kept."""
        return not self._fresh and (self.source.ended or self.sent >= self._limit)

    @property
    def has_first(self) -> bool:
        """Whether the first consumer can be served at once: with a frame, or with the end."""
        return bool(self._fresh or self.kept) or self.source.ended

    def goes_on_after(self, seen: int) -> bool:
        """Tell whether a peer that was sent the first `seen` of the kept frames is sure to be sent more."""
        if self._fresh or seen < len(self.kept):
            return True
        count = min(self.source.hello.get("count", NO_LIMIT), self._limit)
        return self.sent < count and not self.source.ended

    def read(self) -> None:
        """Read a block of fresh frames from the upstream, once there are none. Raises `Fault`."""
        self._fresh = self.source.read()[: self._limit - self.sent]

    def keep_first(self) -> None:
        """Render the first fresh frame and keep it, so that the first peer gets it at once."""
        if self._fresh and not self.kept:
            self._keep([self._fresh.pop(0)])

    def keep_fresh(self) -> None:
        """Render the fresh frames and keep them."""
        self._keep(self._take_fresh())

    def pass_fresh(self, *, received: bool) -> list[Buffer]:
        """Pass on the fresh frames, and return them rendered.

        If they are received, the newest frame that was dropped comes before them.
        """
        rendered = self._rendered(self._take_fresh())
        if received and self._newest is not None:
            with blame_upstream("header"):
                rendered.insert(0, self._render(*self._newest))
            self._newest = None
        self.passed += len(rendered)
        return rendered

    def drop_fresh(self, *, keep_newest: bool) -> None:
        """Drop the fresh frames; with `keep_newest`, the newest one is passed on later, before others."""
        fresh = self._take_fresh()
        if fresh and keep_newest:
            newest = fresh[-1]
            copy = memoryview(bytearray(self.source.view[newest.start : newest.stop]))
            self._newest = copy, newest.moved(-newest.start)

    def release(self, count: int) -> None:
        """Pass on the first `count` of the kept frames: a consumer has been sent them."""
        self.released_any = self.released_any or count > 0
        self.passed += count
        self._kept_bytes -= sum(map(len, self.kept[:count]))
        del self.kept[:count]

    def _take_fresh(self) -> list[Extent]:
        fresh, self._fresh = self._fresh, []
        return fresh

    def _keep(self, frames: list[Extent]) -> None:
        rendered = self._rendered(frames)
        self.kept += map(bytes, rendered)
        self._kept_bytes += sum(map(len, rendered))

    def _rendered(self, frames: list[Extent]) -> list[Buffer]:
        with blame_upstream("header"):
            return [self._render(self.source.view, frame) for frame in frames]
