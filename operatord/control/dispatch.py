# SPDX-License-Identifier: MIT
"""Carries out requests, whatever door they came through: request in, reply or notifications out.

Nothing here knows of a socket. A `Door` brings requests, one `Dispatcher` for each peer carries them out by
the table of methods, and the door sends the results. Quick methods are answered before `carry_out` returns;
slow ones run as tasks, which the dispatcher owns until they are done or the peer is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, Protocol

from operatord.access.identity import NEEDED, Identity, refusal
from operatord.access.origin import Entrance, Origin
from operatord_protocol.checking import clip, suggestion
from operatord_protocol.codec import Dialect, Request, RequestId
from operatord_protocol.errors import (
    Cancelled,
    Forbidden,
    InternalError,
    InvalidRequest,
    MethodNotFound,
    TooManyRequests,
    Unauthorized,
    WireError,
)
from operatord_protocol.methods import METHODS

from . import inside
from .params import take_params
from .peer import Call, Feed, Services
from .reads import READS
from .replies import encode_reply
from .verbs import TASKS, VERBS

log = logging.getLogger(__name__)


class Door(Protocol):
    """The way of one peer in and out, as its dispatcher sees it."""

    @property
    def takes_more(self) -> bool:
        """Whether the peer is there, and reads what it is sent."""
        ...

    @property
    def source(self) -> Origin:
        """Where the peer comes from."""
        ...

    @property
    def entrance(self) -> Entrance:
        """Where it has connected."""
        ...

    def let_in(self) -> None:
        """Hear that the peer has logged in."""
        ...

    def reply(self, request: Request, result: bytes) -> None:
        """Send the answer to a request: JSON, the ``result`` member of the reply."""
        ...

    def refuse(self, request: Request, error: WireError) -> None:
        """Send why a request is not answered otherwise."""
        ...

    def notify(self, dialect: Dialect, method: str, params: dict[str, Any]) -> bool:
        """Send a notification; False, and nothing sent, when the peer takes no more just now."""
        ...

    async def drained(self) -> None:
        """Return when the peer takes more; if the peer goes, waiting tasks are cancelled."""
        ...

    def begun(self) -> None:
        """Hear that a request has begun to run as a task."""
        ...

    def wake(self) -> None:
        """Be notified that there is work: a task is done, or a subscription has something to send."""
        ...

    def cancel_waiting(self, request_id: RequestId) -> Request | None:
        """Forget a request that was not passed on yet, and return it; None if none has that id."""
        ...


class _Nobody:
    """The door of a peer that is gone: nothing comes in, and everything sent is dropped."""

    takes_more = False
    source = Origin("gone")
    entrance = Entrance(None)

    def let_in(self) -> None:
        pass

    def reply(self, request: Request, result: bytes) -> None:
        pass

    def refuse(self, request: Request, error: WireError) -> None:
        pass

    def notify(self, dialect: Dialect, method: str, params: dict[str, Any]) -> bool:
        return False

    async def drained(self) -> None:
        await asyncio.get_running_loop().create_future()  # waiting tasks are being cancelled

    def begun(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def cancel_waiting(self, request_id: RequestId) -> Request | None:
        return None


NOBODY = _Nobody()


class Dispatcher:
    """One peer's requests that are under way, and its subscriptions. It has slots: there may be thousands."""

    __slots__ = (
        "_closers",
        "_door",
        "_due",
        "_ended",
        "_kept",
        "_most",
        "_on_close",
        "_pending",
        "_services",
        "_tasks",
        "id",
        "identity",
    )

    def __init__(self, services: Services, door: Door, identity: Identity) -> None:
        """Serve the peer behind ``door``, who is ``identity``."""
        self.id = 0
        """The number of the peer; nobody else has had it."""
        self.identity = identity
        self._services = services
        self._door: Door = door
        self._most = services.config.limits.in_flight
        self._pending: dict[object, tuple[Call, asyncio.Task[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: dict[int, Feed] = {}
        self._due: dict[int, Feed] = {}
        self._on_close: dict[int, Callable[[], None]] = {}
        self._closers = 0
        self._ended = False

    # Requests

    @property
    def has_room(self) -> bool:
        """Whether one more request may take its time."""
        return len(self._pending) < self._most

    @property
    def has_pending(self) -> bool:
        """Whether requests are under way."""
        return bool(self._pending)

    @property
    def is_used(self) -> bool:
        """Whether something is due to the peer, or hangs on its connection: a subscription, or a lease."""
        return bool(self._pending or self._kept or self._on_close)

    def carry_out(self, request: Request) -> None:
        """Do what is asked, or begin to."""
        try:
            call = Call(self._services, self, request)
            outcome = _outcome(call)
            if type(outcome) is CoroutineType:
                self._begin(call, outcome)
            elif request.wants_reply:
                self._door.reply(request, encode_reply(outcome))
        except WireError as exc:
            self.refuse(request, exc)
        except Exception as exc:
            self.refuse(request, _internal(request, exc))

    def refuse(self, request: Request, error: WireError) -> None:
        """Answer a request with an error, if it is to be answered."""
        if isinstance(error, Unauthorized | Forbidden) and request.method != "auth.login":
            why, audit = {"method": request.method, "why": error.message}, self._services.audit
            audit.refused(self.identity, self.origin, **why)
        if request.wants_reply:
            self._door.refuse(request, error)

    def _begin(self, call: Call, work: Coroutine[Any, Any, Any]) -> None:
        request = call.request
        if request.id is not None and request.id in self._pending:
            work.close()
            raise InvalidRequest(
                f"the id {request.id!r} belongs to a request that is still pending"
            )
        task = self.own(self._finish(call, work))
        self._door.begun()
        key = request.id if request.id is not None else object()
        self._pending[key] = (call, task)
        task.add_done_callback(lambda _: self._done(key, call, task, work))

    async def _finish(self, call: Call, work: Awaitable[Any]) -> None:
        request = call.request
        try:
            result = await work
            if request.wants_reply:
                self._door.reply(request, encode_reply(result))
        except WireError as exc:
            self.refuse(request, exc)
        except Exception as exc:
            self.refuse(request, _internal(request, exc))

    def _done(
        self, key: object, call: Call, task: asyncio.Task[Any], work: Coroutine[Any, Any, Any]
    ) -> None:
        self._pending.pop(key, None)
        # A task cancelled before its first step has not run anything, not even its own handlers.
        work.close()
        if task.cancelled() and call.cancelled:
            self.refuse(call.request, _cancelled())
        self._door.wake()

    def cancel(self, request_id: RequestId) -> bool:
        """Cancel a pending request, or one that waits to become one."""
        call, task = self._pending.get(request_id, (None, None))
        if call is not None and task is not None:
            call.cancelled = True
            return task.cancel()
        waiting = self._door.cancel_waiting(request_id)
        if waiting is not None:
            self.refuse(waiting, _cancelled())
        return waiting is not None

    def own(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run ``work`` until it is done or the peer is gone."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Subscriptions

    @property
    def has_kept(self) -> bool:
        """Whether there are subscriptions."""
        return bool(self._kept)

    @property
    def has_due(self) -> bool:
        """Whether subscriptions may have something to send."""
        return bool(self._due)

    def check_kept(self) -> None:
        """Check that there is room for one more subscription. Raises `TooManyRequests`."""
        most = self._services.config.limits.subscriptions
        if len(self._kept) >= most:
            raise TooManyRequests(
                f"this connection has {len(self._kept)} subscriptions, and limits.subscriptions is {most}: "
                "end one first"
            )

    def keep(self, key: int, feed: Feed) -> None:
        """Note a subscription, which sends after the reply to the present request; see `check_kept`."""
        self._kept[key] = self._due[key] = feed
        self._door.wake()

    def drop(self, key: int) -> bool:
        """End a subscription; False when there is none."""
        feed = self._kept.pop(key, None)
        if feed is None:
            return False
        self._due.pop(key, None)
        feed.end()
        self._door.wake()
        return True

    def due(self, key: int) -> None:
        """Note that a subscription has something to send."""
        self._due[key] = self._kept[key]
        if self._door.takes_more:
            self._door.wake()

    def all_due(self) -> None:
        """Allow every subscription to send again: the peer takes more."""
        self._due |= self._kept

    def next_due(self) -> tuple[int, Feed]:
        """Take one of those that have something to send; `due_again` gives it back."""
        return self._due.popitem()

    def due_again(self, key: int, feed: Feed) -> None:
        """Note that a subscription has more to send than it was given time for."""
        self._due[key] = feed

    # The peer

    @property
    def origin(self) -> Origin:
        """Where the peer comes from."""
        return self._door.source

    @property
    def entrance(self) -> Entrance:
        """Where it has connected."""
        return self._door.entrance

    def log_in(self, who: Identity) -> None:
        """Be ``who`` from now on."""
        self.identity = who
        self._door.let_in()

    def notify(self, dialect: Dialect, method: str, params: dict[str, Any]) -> bool:
        """Send a notification unless the peer takes no more."""
        return self._door.notify(dialect, method, params)

    async def drained(self) -> None:
        """Return when the peer takes more."""
        await self._door.drained()

    def on_close(self, callback: Callable[[], None]) -> Callable[[], object]:
        """Call ``callback`` when the peer is gone, or now if it is; return how to undo it."""
        if self._ended:
            callback()
            return lambda: None
        self._closers += 1
        key = self._closers
        self._on_close[key] = callback
        return lambda: self._on_close.pop(key, None)

    def end(self) -> None:
        """Cancel the peer's requests and subscriptions: it is gone, or is served no longer. Idempotent."""
        self._ended = True
        for task in tuple(self._tasks):
            task.cancel()
        for feed in tuple(self._kept.values()):
            feed.end()
        for callback in tuple(self._on_close.values()):
            callback()
        self._on_close.clear()
        self._kept.clear()
        self._due.clear()
        # A circle would be left to the garbage collector: thousands of peers that go in one moment would stop
        # the daemon for a tenth of a second.
        self._door = NOBODY


def takes_task(method: str) -> bool:
    """Tell whether a method runs as a task."""
    return method in TASKS


def _outcome(call: Call) -> Any:
    """Return what the verb for a request returns, or the coroutine that will. Raises `WireError`."""
    method, services, who = call.request.method, call.services, call.peer.identity
    if (needed := NEEDED.get(method)) is None:
        if method == inside.METHOD and call.peer.entrance.by_gateway:
            return inside.location(call)
        raise _unknown_method(method)
    if who.rank < needed:
        raise refusal(who, method)
    params = take_params(method, call.request.params, services.config.pipelines)
    read = READS.get(method)
    return read(services, who, params) if read else VERBS[method](call, params)


def _unknown_method(name: str) -> MethodNotFound:
    return MethodNotFound(f"there is no method {clip(name)!r}{suggestion(name, METHODS)}")


def _cancelled() -> Cancelled:
    return Cancelled("the request was cancelled")


def _internal(request: Request, exc: Exception) -> InternalError:
    log.error("the method %s failed", request.method, exc_info=exc)
    return InternalError("an internal error of the daemon; its log says more")
