# SPDX-License-Identifier: MIT
"""What a stage needs besides its own work: `serve(function)` makes a function a filter, a source or a sink.

    import operatord_stage as stage

    def segment(frame: stage.Frame) -> dict[str, bytes]:
        return {"mask": bytes(255 if level < 64 else 0 for level in frame.image)}

    stage.serve(segment)

All that is meant for others is named here; it is loaded where it is first used. `make emulators` copies the
modules that the emulators import to them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from operatord_stage.dialect import Dialect as Dialect
    from operatord_stage.dialect import StreamFormat as StreamFormat
    from operatord_stage.dialect import Y4m as Y4m
    from operatord_stage.serving.entry import serve as serve
    from operatord_stage.serving.frame import Frame as Frame
    from operatord_stage.serving.frame import Part as Part
    from operatord_stage.serving.raw import RawSource as RawSource
    from operatord_stage.stage import BAD_SETTING as BAD_SETTING
    from operatord_stage.stage import BROKEN_STREAM as BROKEN_STREAM
    from operatord_stage.stage import NO_NEIGHBOUR as NO_NEIGHBOUR
    from operatord_stage.stage import OWN_FAILURE as OWN_FAILURE
    from operatord_stage.stage import Fault as Fault
    from operatord_stage.stage import choice as choice
    from operatord_stage.stage import number as number
    from operatord_stage.stage import switch as switch
    from operatord_stage.stage import text as text

_PLACES = {
    "serve": "serving.entry",
    "Frame": "serving.frame",
    "Part": "serving.frame",
    "RawSource": "serving.raw",
    "Dialect": "dialect",
    "StreamFormat": "dialect",
    "Y4m": "dialect",
    "Fault": "stage",
    "OWN_FAILURE": "stage",
    "BAD_SETTING": "stage",
    "NO_NEIGHBOUR": "stage",
    "BROKEN_STREAM": "stage",
    "text": "stage",
    "number": "stage",
    "choice": "stage",
    "switch": "stage",
}
"""The module of each name."""


def __getattr__(name: str) -> object:
    """Load what is asked for the first time."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only where something is loaded

    found: object = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found
