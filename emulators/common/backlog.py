# SPDX-License-Identifier: MIT
"""Frames between the upstream and the consumers: read and not yet sent, kept to be sent again, or dropped."""

from __future__ import annotations

from common.headers import blame_upstream
from common.terms import NO_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from common.source import Buffer, Frame, Render, Source
    from common.terms import Terms

KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of frames that are kept for the next, should all who were sent them be no consumers."""


class Backlog:
    """What has been read of the stream and has not been passed on for good.

    Fresh frames are those that were read last and sent to nobody. While nobody is sure to be a
    consumer, frames are kept when they are sent, and count as passed on only when they are released.
    """

    def __init__(self, source: Source, terms: Terms, render: Render) -> None:
        self.source = source
        self.keeping = True  # nobody is sure to be a consumer
        self.kept: list[bytes] = []  # rendered
        self.passed = 0  # frames that a consumer has had, or that were read to reach nobody
        self.begun = False  # a consumer has had frames that were kept
        self._limit, self._render = terms.limit, render
        self._kept_bytes = 0
        self._fresh: list[Frame] = []
        self._newest: tuple[memoryview, Frame] | None = None  # of what was dropped

    @property
    def sent(self) -> int:
        """How many frames were sent to anybody, or passed on."""
        return self.passed + len(self.kept)

    @property
    def is_full(self) -> bool:
        """Whether no more frames can be kept."""
        return self._kept_bytes >= KEPT_BYTES

    @property
    def is_over(self) -> bool:
        """Whether nothing is to come that is not in the hands of all who receive."""
        return not self._fresh and (self.source.ended or self.sent >= self._limit)

    @property
    def is_ready(self) -> bool:
        """Whether something is there, or known, for whoever comes first."""
        return bool(self._fresh or self.kept) or self.source.ended

    def goes_on_after(self, seen: int) -> bool:
        """Tell whether more frames are sure to come for whom has been sent `seen` of those that are kept."""
        if self._fresh or seen < len(self.kept):
            return True
        count = min(self.source.hello.get("count", NO_LIMIT), self._limit)
        return self.sent < count and not self.source.ended

    def read(self) -> None:
        """Read a block from the upstream, of which there is nothing fresh."""
        self._fresh = self.source.read()[: self._limit - self.sent]

    def keep_first(self) -> None:
        """Have the first frame ready for whoever comes, and the others when it is needed no more."""
        if self._fresh and not self.kept:
            self._keep([self._fresh.pop(0)])

    def keep_fresh(self) -> None:
        """Keep what is fresh."""
        self._keep(self._take_fresh())

    def pass_fresh(self, *, received: bool) -> list[Buffer]:
        """Pass on what is fresh, behind the newest frame that was dropped, if somebody receives it."""
        rendered = self._rendered(self._take_fresh())
        if received and self._newest is not None:
            with blame_upstream("header"):
                rendered.insert(0, self._render(*self._newest))
            self._newest = None
        self.passed += len(rendered)
        return rendered

    def drop_fresh(self, *, keep_newest: bool) -> None:
        """Drop what is fresh, but keep the newest frame for whoever comes, if so asked."""
        fresh = self._take_fresh()
        if fresh and keep_newest:
            newest = fresh[-1]
            copy = memoryview(bytearray(self.source.view[newest.start : newest.stop]))
            self._newest = copy, newest.moved(-newest.start)

    def release(self, count: int) -> None:
        """Keep the first so many frames no longer: a consumer has had them."""
        self.begun = self.begun or count > 0
        self.passed += count
        self._kept_bytes -= sum(map(len, self.kept[:count]))
        del self.kept[:count]

    def _take_fresh(self) -> list[Frame]:
        fresh, self._fresh = self._fresh, []
        return fresh

    def _keep(self, frames: list[Frame]) -> None:
        rendered = self._rendered(frames)
        self.kept += map(bytes, rendered)
        self._kept_bytes += sum(map(len, rendered))

    def _rendered(self, frames: list[Frame]) -> list[Buffer]:
        with blame_upstream("header"):
            return [self._render(self.source.view, frame) for frame in frames]
