# SPDX-License-Identifier: MIT
"""Clients of operatord: `Client` blocks, `AsyncClient` is for asyncio; `operatorctl` is for people.

    from operatord_client import Client

    with Client() as client, client.start(count=500) as session:
        for frame in session.frames():
            print(frame.seq, frame.part("mask"))

Names are loaded when they are first used, so that `operatorctl --help` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

    from operatord_protocol.messages import Session as Session
    from operatord_protocol.stream import End as End
    from operatord_protocol.stream import Frame as Frame
    from operatord_protocol.stream import Hello as Hello

    from . import errors as errors
    from .address import Tcp as Tcp
    from .address import Tls as Tls
    from .address import Unix as Unix
    from .address import parse_address as parse_address
    from .async_client import AsyncClient as AsyncClient
    from .async_feeds import AsyncFeed as AsyncFeed
    from .async_frames import AsyncFrameStream as AsyncFrameStream
    from .async_frames import async_open_frames as async_open_frames
    from .async_frames import async_open_raw as async_open_raw
    from .async_session import AsyncRunningSession as AsyncRunningSession
    from .client import Client as Client
    from .errors import ApplicationError as ApplicationError
    from .errors import CallTimeout as CallTimeout
    from .errors import Cancelled as Cancelled
    from .errors import ClientClosed as ClientClosed
    from .errors import ClientError as ClientError
    from .errors import Conflict as Conflict
    from .errors import ConnectionLost as ConnectionLost
    from .errors import DaemonUnavailable as DaemonUnavailable
    from .errors import DaemonUnreachable as DaemonUnreachable
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import Draining as Draining
    from .errors import EngineUnavailable as EngineUnavailable
    from .errors import Error as Error
    from .errors import Forbidden as Forbidden
    from .errors import ImageMissing as ImageMissing
    from .errors import InternalError as InternalError
    from .errors import InvalidParams as InvalidParams
    from .errors import InvalidRequest as InvalidRequest
    from .errors import LocationUnreachable as LocationUnreachable
    from .errors import MethodNotFound as MethodNotFound
    from .errors import NeverFits as NeverFits
    from .errors import NoCapacity as NoCapacity
    from .errors import NotFound as NotFound
    from .errors import ParseError as ParseError
    from .errors import ProbeUnreachable as ProbeUnreachable
    from .errors import ProtocolFault as ProtocolFault
    from .errors import QueueFull as QueueFull
    from .errors import StartFailed as StartFailed
    from .errors import StreamError as StreamError
    from .errors import TooManyRequests as TooManyRequests
    from .errors import Unauthorized as Unauthorized
    from .errors import UnexpectedAnswer as UnexpectedAnswer
    from .errors import Unreachable as Unreachable
    from .errors import UnsendableRequest as UnsendableRequest
    from .errors import WireError as WireError
    from .feeds import Feed as Feed
    from .frames import FrameStream as FrameStream
    from .frames import open_frames as open_frames
    from .frames import open_raw as open_raw
    from .notices import Event as Event
    from .notices import Notice as Notice
    from .notices import Progress as Progress
    from .options import Recorded as Recorded
    from .options import RecordOptions as RecordOptions
    from .options import StartOptions as StartOptions
    from .session import RunningSession as RunningSession

_HOMES = {
    ".address": ("Tcp", "Tls", "Unix", "parse_address"),
    ".async_client": ("AsyncClient",),
    ".async_feeds": ("AsyncFeed",),
    ".async_frames": ("AsyncFrameStream", "async_open_frames", "async_open_raw"),
    ".async_session": ("AsyncRunningSession",),
    ".client": ("Client",),
    ".errors": (
        "ApplicationError",
        "CallTimeout",
        "Cancelled",
        "ClientClosed",
        "ClientError",
        "Conflict",
        "ConnectionLost",
        "DaemonUnavailable",
        "DaemonUnreachable",
        "DeadlineExceeded",
        "Draining",
        "EngineUnavailable",
        "Error",
        "Forbidden",
        "ImageMissing",
        "InternalError",
        "InvalidParams",
        "InvalidRequest",
        "LocationUnreachable",
        "MethodNotFound",
        "NeverFits",
        "NoCapacity",
        "NotFound",
        "ParseError",
        "ProbeUnreachable",
        "ProtocolFault",
        "QueueFull",
        "StartFailed",
        "StreamError",
        "TooManyRequests",
        "Unauthorized",
        "UnexpectedAnswer",
        "Unreachable",
        "UnsendableRequest",
        "WireError",
    ),
    ".feeds": ("Feed",),
    ".frames": ("FrameStream", "open_frames", "open_raw"),
    ".notices": ("Event", "Notice", "Progress"),
    ".options": ("RecordOptions", "Recorded", "StartOptions"),
    ".session": ("RunningSession",),
    "operatord_protocol.messages": ("Session",),
    "operatord_protocol.stream": ("End", "Frame", "Hello"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME_OF, "errors"])  # noqa: PLE0605 - a list, all the same


def __getattr__(name: str) -> Any:
    """Load a public name from the module where it lives (PEP 562)."""
    if name == "errors":
        return import_module(".errors", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
