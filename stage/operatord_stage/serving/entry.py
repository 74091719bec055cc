# SPDX-License-Identifier: MIT
"""serve(): run a function as a stage."""

from __future__ import annotations

import os
import sys

from operatord_stage.dialect import StreamFormat
from operatord_stage.relay import Relay
from operatord_stage.serving.calling import calling
from operatord_stage.serving.filters import Filter
from operatord_stage.serving.generated import Generated
from operatord_stage.serving.work import Work
from operatord_stage.sockets import listen
from operatord_stage.source import rehearse
from operatord_stage.stage import run, text
from operatord_stage.terms import TERMS_HELP, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, NoReturn, TypeAlias

    from operatord_stage.dialect import Dialect
    from operatord_stage.serving.frame import Frame
    from operatord_stage.serving.work import Hello, Opener
    from operatord_stage.source import Render, Upstream

    Function: TypeAlias = (
        Callable[[Frame], object] | Callable[[], Iterable[object] | Upstream] | Iterable[object]
    )

NAMES = {
    "filter": ("segmentation", "stream"),
    "sink": ("segmentation", "stream"),
    "source": ("probe", ""),
}
"""What a stage and its upstream are called where nobody says so, by its kind."""
PORTS = {"probe": 12345, "stream": 12346}
"""The ports of stages with these names, where the environment has none."""
PORT = 12347
"""The port of any other one."""

HELP = """
Settings, all from the environment:

    OPERATORD_STAGE    name of this stage                                ({name})
    OPERATORD_UPSTREAM name of the one before it                         ({upstream})
    NAME_ip, NAME_port for each of the two, its name or address and port
"""


def serve(  # noqa: PLR0913 - a keyword for each thing that a stage may want otherwise
    function: Function,
    *,
    kind: Literal["filter", "source", "sink"] = "filter",
    name: str | None = None,
    upstream: str | None = None,
    hello: Hello | None = None,
    formats: tuple[str, ...] = (),
    policy: Literal["lossless", "fastest", "live"] | None = None,
    wire: Dialect | None = None,
    figures: dict[str, object] | None = None,
    prepare: Callable[[], object] | None = None,
    finish: Callable[[], object] | None = None,
) -> NoReturn:
    """Serve one stream to its end, and end the process with the exit code that says how it went.

    What a stage has to do besides its own work is done here: late binding, settings, hello, checks, consumers
    and spectators, attaching, policies, back-pressure, reports and signals.

    Args:
        function: A filter's is called with each `Frame`, and returns it, a dict of parts that it gets, or a
            `Frame` of its own. A sink's is called with each, and the stream is served on as it is. A source's
            is a generator function of pictures (bytes, arrays, dicts of parts, or `Frame`s), or one that
            returns a `RawSource`, or another object with the members that are listed there. A filter is not
            called for frames that nobody gets. While a function runs, nobody is served: it should take less
            than a second.
        kind: which of these it is.
        name: this stage's name, if the environment does not say it (`OPERATORD_STAGE`).
        upstream: that of the stage before it (`OPERATORD_UPSTREAM`).
        hello: for a source, what it sends: `width`, `height`, and what is known of `format`, `fps`, `count`
            and others. For a filter, what differs from the upstream's, such as the size. A function is called
            once the settings are there; a filter's with the upstream's hello.
        formats: the formats of pictures that a filter or sink takes, as `("gray8",)`; empty: all.
        policy: the policy, if the environment does not say it.
        wire: the protocol in which consumers are served, whatever the setting `format` says.
        figures: more members for the reports; may be changed at any time.
        prepare: is called once the settings are there: `number()`, `choice()` and others read more of them.
            What needs none is best done before `serve()` is called, where a warm slot has it done already.
        finish: is called at the end, whatever it is. After a signal it has half a second.
    """
    check_call(function, kind)
    names = name or NAMES[kind][0], upstream or NAMES[kind][1]
    work = Work(function, hello, formats, wire)
    endings = [] if finish is None else [finish]

    def end() -> None:
        while endings:
            calling(endings.pop())

    def serve_once(last_words: list[Callable[[], None]]) -> None:
        last_words.append(end)
        try:
            if prepare is not None:
                calling(prepare)
            stage, settings = read_settings(*names)
            settings.policy = settings.policy or policy or ""
            serve_stream(
                work.opener(kind), stage, settings, {} if figures is None else figures, last_words
            )
        finally:
            end()

    script = os.path.basename(sys.argv[0]).split(".")[0]  # noqa: PTH119 - pathlib takes long
    sys.exit(run(script, help_text(*names), serve_once, lambda: rehearse(rehearsed)))


def check_call(function: object, kind: str) -> None:
    """Raise what a wrong call of a function is told, which no type checker has looked at."""
    if kind not in NAMES:
        raise ValueError(f"kind must be one of {', '.join(NAMES)}, not {kind!r}")
    if not (callable(function) or (kind == "source" and hasattr(function, "__iter__"))):
        raise TypeError(f"serve() takes a function, not {type(function).__name__}")


def read_settings(name: str, upstream: str) -> tuple[str, Settings]:
    """Return this stage's name and its settings, given the names where none are set. Raises `Fault`."""
    stage = text("OPERATORD_STAGE", name)
    before = text("OPERATORD_UPSTREAM", upstream)
    end = (before, PORTS.get(before, PORT)) if before else None
    return stage, Settings(end, (stage, PORTS.get(stage, PORT)))


def serve_stream(
    opener: Opener,
    stage: str,
    settings: Settings,
    figures: dict[str, object],
    last_words: list[Callable[[], None]],
) -> None:
    """Listen, open the upstream, and pass its frames on to the end. Raises `Fault`."""
    listener = listen(stage, settings.host, settings.port, settings.connect_timeout)
    source, terms, render = opener(stage, settings)
    relay = Relay(source, listener, terms, render)
    relay.reports.figures = figures
    try:
        relay.run(last_words)
    finally:
        if isinstance(source, Generated):
            source.stop()


def help_text(name: str, upstream: str) -> str:
    """Return what --help says: what the script says of itself, and the settings."""
    own = (sys.modules["__main__"].__doc__ or "").strip() + "\n"
    return own + HELP.format(name=name, upstream=upstream or "none") + TERMS_HELP


def rehearsed(hello: dict[str, Any]) -> Render:
    """Return what renders the frame of a rehearsal: all but the function, which it may not be for."""
    return Filter(lambda frame: {"mask": frame.image}, StreamFormat(), hello, hello).render
