# SPDX-License-Identifier: MIT
"""Every error that travels on the wire, as classes that both sides share.

    WireError
    ├── ProtocolFault            the line itself was at fault; codes of JSON-RPC 2.0, negative
    │   ├── ParseError           -32700  not JSON, not UTF-8, or longer than a line may be
    │   ├── InvalidRequest       -32600  JSON, but not a request
    │   ├── MethodNotFound       -32601
    │   ├── InvalidParams        -32602  ``data.path`` names the member
    │   └── InternalError        -32603  our fault, never the peer's
    └── ApplicationError         the request was understood and refused; positive codes
        ├── Unauthorized, Forbidden
        ├── NotFound, Conflict, Cancelled
        ├── NoCapacity, QueueFull, DeadlineExceeded, NeverFits, Draining, TooManyRequests
        ├── ImageMissing, EngineUnavailable, StartFailed, ProbeUnreachable
        └── DaemonUnavailable

The code and the type travel with the exception, and `to_wire` is the one place where it becomes JSON.
Clients switch on `type`; the message is for people and says what to do.
"""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """Root of `WireError`, and of what goes wrong on a client's own side."""


class WireError(Error):
    """Root of everything that a peer may be told."""

    code: int = -32603
    type: str = "internal_error"
    retryable: bool = False

    def __init__(self, message: str, **data: Any) -> None:
        """Keep ``message`` (a sentence) and the further members of ``data``."""
        self.message = message
        self.data = data
        super().__init__(message)

    def to_wire(self) -> dict[str, Any]:
        """Return the ``error`` member of a reply."""
        data = {"type": self.type, "retryable": self.retryable, **self.data}
        return {"code": self.code, "message": self.message, "data": data}


class ProtocolFault(WireError):
    """The line was at fault."""


class ParseError(ProtocolFault):
    """The line is not JSON, not UTF-8, or too long."""

    code = -32700
    type = "parse_error"


class InvalidRequest(ProtocolFault):
    """The line is JSON but not a request."""

    code = -32600
    type = "invalid_request"


class MethodNotFound(ProtocolFault):
    """There is no such method."""

    code = -32601
    type = "method_not_found"


class InvalidParams(ProtocolFault):
    """A member of ``params`` is unknown, of the wrong type or out of range; ``path`` names it."""

    code = -32602
    type = "invalid_params"

    def __init__(self, message: str, *, path: str = "params", **data: Any) -> None:
        super().__init__(message, path=path, **data)


class InternalError(ProtocolFault):
    """The daemon is at fault; its log says more."""

    code = -32603
    type = "internal_error"


class ApplicationError(WireError):
    """The request was understood and cannot be granted."""

    code = 1
    type = "refused"


class Unauthorized(ApplicationError):
    """No valid login."""

    code = 1
    type = "unauthorized"


class Forbidden(ApplicationError):
    """Logged in, but not allowed."""

    code = 2
    type = "forbidden"


class NotFound(ApplicationError):
    """No such session, probe, pipeline, subscription or request."""

    code = 3
    type = "not_found"


class Conflict(ApplicationError):
    """It contradicts the present state: the name is taken, the session has ended, …"""

    code = 4
    type = "conflict"


class NoCapacity(ApplicationError):
    """There is no room now and the requester did not want to queue."""

    code = 5
    type = "no_capacity"
    retryable = True


class QueueFull(ApplicationError):
    """There is no room now, and none in the queue either."""

    code = 6
    type = "queue_full"
    retryable = True


class DeadlineExceeded(ApplicationError):
    """It did not come to pass within the time the requester gave."""

    code = 7
    type = "deadline_exceeded"
    retryable = True


class NeverFits(ApplicationError):
    """It is larger than the whole machine; waiting does not help."""

    code = 8
    type = "never_fits"


class Draining(ApplicationError):
    """The daemon takes no new sessions."""

    code = 9
    type = "draining"
    retryable = True


class ImageMissing(ApplicationError):
    """A stage's image is not on the engine."""

    code = 10
    type = "image_missing"


class EngineUnavailable(ApplicationError):
    """The container engine does not answer."""

    code = 11
    type = "engine_unavailable"
    retryable = True


class StartFailed(ApplicationError):
    """A step of the start failed and everything was rolled back; ``step`` and ``log`` say where."""

    code = 12
    type = "start_failed"


class Cancelled(ApplicationError):
    """The request was cancelled, or its session was stopped before it was ready."""

    code = 13
    type = "cancelled"


class TooManyRequests(ApplicationError):
    """More connections or requests than this daemon grants one peer."""

    code = 14
    type = "too_many_requests"
    retryable = True


class ProbeUnreachable(ApplicationError):
    """The registered probe does not answer with a stream header."""

    code = 15
    type = "probe_unreachable"
    retryable = True


class DaemonUnavailable(ApplicationError):
    """The daemon does not answer: said by what speaks for it, the gateway for HTTP."""

    code = 16
    type = "daemon_unavailable"
    retryable = True


ALL: tuple[type[WireError], ...] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    InternalError,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    NoCapacity,
    QueueFull,
    DeadlineExceeded,
    NeverFits,
    Draining,
    ImageMissing,
    EngineUnavailable,
    StartFailed,
    Cancelled,
    TooManyRequests,
    ProbeUnreachable,
    DaemonUnavailable,
)
BY_TYPE: dict[str, type[WireError]] = {cls.type: cls for cls in ALL}
BY_CODE: dict[int, type[WireError]] = {cls.code: cls for cls in ALL}


def from_wire(error: Any) -> WireError:
    """Return the exception for an ``error`` member, even a malformed one.

    The class follows the type, else the code, else it is `WireError`; code, type and ``retryable`` stay
    what the peer said, so that errors of a later version keep their names.
    """
    error = error if isinstance(error, dict) else {"message": str(error)}
    data = error.get("data")
    data = dict(data) if isinstance(data, dict) else {}
    code, kind, retryable = error.get("code"), data.pop("type", None), data.pop("retryable", None)
    by_code = BY_CODE.get(code, WireError) if isinstance(code, int) else WireError
    cls = BY_TYPE.get(kind, by_code) if isinstance(kind, str) else by_code
    exc = cls.__new__(cls)
    WireError.__init__(exc, str(error.get("message", "")))
    exc.data = data
    _keep(exc, "code", code, int)
    _keep(exc, "type", kind, str)
    _keep(exc, "retryable", retryable, bool)
    return exc


def _keep(exc: WireError, name: str, value: object, type_: type) -> None:
    if type(value) is type_ and value != getattr(exc, name):
        setattr(exc, name, value)
