# SPDX-License-Identifier: MIT
"""What a stage does by its kind: where its frames come from, and what is made of them."""

from __future__ import annotations

from operatord_stage.serving.calling import Mistake, calling, name_of
from operatord_stage.serving.filters import Filter, Sink
from operatord_stage.serving.generated import Generated
from operatord_stage.serving.raw import checked_hello
from operatord_stage.serving.results import Results, shown
from operatord_stage.source import ALL_FORMATS, connect
from operatord_stage.terms import Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    from operatord_stage.dialect import Dialect
    from operatord_stage.source import Render, Upstream
    from operatord_stage.terms import Settings

    Hello: TypeAlias = Mapping[str, Any] | Callable[..., Mapping[str, Any]]
    Opened: TypeAlias = tuple[Upstream, Terms, Render]
    """Where frames come from, how they are served, and what is made of each."""
    Opener: TypeAlias = Callable[[str, Settings], Opened]


class Work:
    """A function as a stage of some kind, until its upstream is open."""

    def __init__(
        self,
        function: Any,
        hello: Hello | None,
        formats: tuple[str, ...],
        wire: Dialect | None,
    ) -> None:
        self.function, self.hello, self.formats, self.wire = function, hello, formats, wire

    def opener(self, kind: str) -> Opener:
        """Return what opens the upstream of a kind of stage, given its name and settings."""
        openers = {"filter": self._filter, "sink": self._sink, "source": self._source}
        return openers[kind]

    def _filter(self, stage: str, settings: Settings) -> Opened:
        """Connect to the upstream, for a function that returns frames. Raises `Fault`."""
        source = connect(settings, self.formats or ALL_FORMATS)
        said = hello = source.hello
        if self.hello is not None:
            hello = checked_hello({**said, **self._said(said)})
        terms = Terms(stage, settings, hello, self.wire)
        return source, terms, Filter(self.function, terms.wire, said, hello).render

    def _sink(self, stage: str, settings: Settings) -> Opened:
        """Connect to the upstream, for a function that takes frames. Raises `Fault`."""
        source = connect(settings, self.formats or ALL_FORMATS)
        terms = Terms(stage, settings, source.hello, self.wire)
        terms.take_all()
        return source, terms, Sink(self.function, terms.wire, source.hello).render

    def _source(self, stage: str, settings: Settings) -> Opened:
        """Begin to make frames. Raises `Fault`."""
        settings.attached = False  # there is no upstream to attach to
        made = calling(self.function) if callable(self.function) else self.function
        source = made if hasattr(made, "ask_for_frames") else self._generated(made)
        terms = Terms(stage, settings, source.hello, self.wire)
        return source, terms, terms.wire.passed_on

    def _generated(self, made: Any) -> Upstream:
        name = f"{name_of(self.function)}()" if callable(self.function) else "the iterator"
        if self.hello is None:
            raise Mistake(
                "serve() of a source needs a hello, such as hello={'width': 640, 'height': 480}"
            )
        try:
            frames = iter(made)
        except TypeError as exc:
            raise Mistake(
                f"{name} returned {shown(made)}: it must be a generator of frames"
            ) from exc
        hello = checked_hello(self._said())
        return Generated(frames, hello, Results(name, "yielded", hello))

    def _said(self, *upstream: dict[str, Any]) -> Mapping[str, Any]:
        """Return the members of a hello that serve() was given, or its function returns."""
        if callable(self.hello):
            return calling(self.hello, *upstream)
        return self.hello or {}
