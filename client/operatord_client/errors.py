# SPDX-License-Identifier: MIT
"""What can go wrong in a client.

Error
├── WireError                     what the daemon answered: operatord_protocol.errors, by type
├── ClientError                   what happened on this side of the wire
│   ├── Unreachable
│   │   ├── DaemonUnreachable     nothing answers at the daemon's address
│   │   └── LocationUnreachable   nothing answers at a session's location
│   ├── ConnectionLost            it was there, and the connection ended before the answer
│   ├── ClientClosed              this client was closed, and nothing was asked
│   ├── CallTimeout               no answer within the time that the caller gave
│   ├── UnsendableRequest         the request is no JSON, or too long a line, and nothing was sent
│   └── UnexpectedAnswer          what answers does not speak this protocol
└── StreamError                   the stream at a location is cut short, or not a stream
"""

from __future__ import annotations

from operatord_protocol.errors import (
    ApplicationError,
    Cancelled,
    Conflict,
    DaemonUnavailable,
    DeadlineExceeded,
    Draining,
    EngineUnavailable,
    Error,
    Forbidden,
    ImageMissing,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    NeverFits,
    NoCapacity,
    NotFound,
    ParseError,
    ProbeUnreachable,
    ProtocolFault,
    QueueFull,
    StartFailed,
    TooManyRequests,
    Unauthorized,
    WireError,
)
from operatord_protocol.stream import StreamError

__all__ = [
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
]


class ClientError(Error):
    """Root of what goes wrong on this side of the wire."""


class Unreachable(ClientError):
    """No connection could be made."""


class DaemonUnreachable(Unreachable):
    """Nothing answers at the daemon's address."""


class LocationUnreachable(Unreachable):
    """Nothing answers at a session's location."""


class ConnectionLost(ClientError):
    """The connection ended before the answer; whether the request took effect is not known."""


class ClientClosed(ClientError):
    """The client was closed, and nothing has gone out; its ``connect`` opens it again."""

    def __init__(self) -> None:
        super().__init__("this client is closed: make another, or call its connect() first")


class CallTimeout(ClientError):
    """There was no answer within the time that the caller gave; the request was cancelled."""


class UnsendableRequest(ClientError):
    """The request cannot be JSON, or is a longer line than the daemon accepts. The connection goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; nothing was sent")


class UnexpectedAnswer(ClientError):
    """The peer does not speak this protocol, or a version of it that this client cannot read."""
