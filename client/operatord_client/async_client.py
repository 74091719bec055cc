# SPDX-License-Identifier: MIT
# client.py is made from this file: after a change, run make client.
"""The client for asyncio: one typed coroutine per verb.

    async with AsyncClient() as client, await client.start(count=500) as session:
        async for frame in session.frames():
            ...

A client may be used by all tasks of one loop: their calls share one connection and overtake each other.
Subscriptions (`events`, followed `logs`) have connections of their own, so a slow reader holds up nothing
else, and the daemon, not this process, bounds the buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from operatord_protocol import messages as m

from ._transport import forks
from ._transport.async_connection import AsyncConnection
from ._transport.async_locks import locked
from ._transport.core import Login, decode_result, given
from .address import Address, AddressLike, parse_address
from .async_feeds import AsyncFeed, event_feed, lasting_event_feed, log_feed
from .async_session import AsyncRunningSession
from .errors import ClientClosed
from .notices import Event, Notice, Progress
from .options import StartOptions, default_token, leased
from .pages import Pages

T = TypeVar("T")
OnProgress = Callable[[Progress], None]

ANSWER_TIMEOUT = 30.0
CONNECT_TIMEOUT = 5.0


class AsyncClient:
    """A connection to a daemon, made with the first call or on ``with``.

    Every call takes ``call_timeout`` in seconds. Without it, quick calls get the client's ``timeout``, and
    long ones (start, stop, wait, drain) have none. When the time is up the request is cancelled and
    `CallTimeout` raised. A refusal raises the class of `operatord_client.errors` that goes with its type;
    what cannot be sent raises `UnsendableRequest`, and nothing else comes of it. A lost connection raises
    `ConnectionLost` from each pending and further call until `reconnect`. Of a client that was closed, each
    call raises `ClientClosed` until `connect`. A process that is forked makes a connection of its own.
    """

    def __init__(
        self,
        address: AddressLike | None = None,
        *,
        token: str | None = None,
        timeout: float | None = ANSWER_TIMEOUT,
        connect_timeout: float | None = CONNECT_TIMEOUT,
    ) -> None:
        """Talk to ``address``, see `parse_address`; log in with ``token``, else ``$OPERATORD_TOKEN``."""
        self.address: Address = parse_address(address)
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self._token = token or default_token()
        self._connection: AsyncConnection | None = None
        self._closed = False
        self._connecting = asyncio.Lock()
        forks.note(self)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # --- the connection ------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect unless there is a connection, also after `close`. Raises `DaemonUnreachable`."""

        async def connect() -> None:
            self._closed = False
            if self._connection is None:
                self._connection = await self._open()

        await locked(self._connecting, connect)

    async def close(self) -> None:
        """Disconnect; each further call raises `ClientClosed`, until `connect` or `reconnect`.

        Feeds that are open go on, but do not connect anew any more.
        """

        async def leave() -> AsyncConnection | None:
            self._closed = True
            connection, self._connection = self._connection, None
            return connection

        if (connection := await locked(self._connecting, leave)) is not None:
            await connection.close()

    async def reconnect(self) -> None:
        """Connect anew, and log in again when there is a token. Raises `DaemonUnreachable`."""
        await self.close()
        await self.connect()

    async def _open(self) -> AsyncConnection:
        self._require_open()
        return await AsyncConnection.open(self.address, self.connect_timeout, self._login())

    def _login(self) -> Login | None:
        return None if self._token is None else Login(self._token, self.timeout)

    async def _connected(self) -> AsyncConnection:
        async def connect() -> AsyncConnection:
            if (connection := self._connection) is None:
                connection = self._connection = await self._open()
            return connection

        if (connection := self._connection) is not None:
            return connection
        return await locked(self._connecting, connect)

    def _require_open(self) -> None:
        if self._closed:
            raise ClientClosed

    def after_fork(self) -> None:
        """In a process that was forked, make another connection with the next call."""
        self._connection, self._connecting = None, asyncio.Lock()

    # --- calls in general ------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        call_timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> bytes:
        """Call any method; return its result as JSON, as it came."""
        connection = await self._connected()
        return await connection.converse(method, params or {}, call_timeout, bytes, on_progress)

    async def _call(self, method: str, type_: type[T], limit: float | None, /, **params: Any) -> T:
        raw = await self.request(method, given(**params), call_timeout=limit)
        return decode_result(method, raw, type_)

    async def _quick(self, method: str, type_: type[T], limit: float | None, /, **params: Any) -> T:
        return await self._call(method, type_, self._limit(limit), **params)

    # --- system ------------------------------------------------------------------------------------

    async def ping(self, *, call_timeout: float | None = None) -> m.Pong:
        """Return the daemon's time."""
        return await self._quick("system.ping", m.Pong, call_timeout)

    async def describe(self, *, call_timeout: float | None = None) -> m.Description:
        """Return versions, methods with their schemas, errors and capabilities."""
        return await self._quick("system.describe", m.Description, call_timeout)

    async def status(self, *, call_timeout: float | None = None) -> m.Status:
        """Return engine, room, sessions, queue, warm slots and uptime."""
        return await self._quick("system.status", m.Status, call_timeout)

    async def metrics(self, *, call_timeout: float | None = None) -> m.Metrics:
        """Return all that the daemon counts and measures, as Prometheus names it."""
        return await self._quick("system.metrics", m.Metrics, call_timeout)

    async def drain(
        self, *, timeout: float | None = None, call_timeout: float | None = None
    ) -> m.Drained:
        """Admit no more sessions; the daemon waits ``timeout`` seconds for those that run."""
        return await self._call("system.drain", m.Drained, call_timeout, timeout=timeout)

    async def undrain(self, *, call_timeout: float | None = None) -> m.Drained:
        """Admit sessions again."""
        return await self._quick("system.undrain", m.Drained, call_timeout)

    async def reload(self, *, call_timeout: float | None = None) -> m.Reloaded:
        """Have the configuration read again, all of it or nothing."""
        return await self._quick("system.reload", m.Reloaded, call_timeout)

    async def login(self, token: str, *, call_timeout: float | None = None) -> m.Login:
        """Say who this client is, now and after each reconnect."""
        login = await self._quick("auth.login", m.Login, call_timeout, token=token)
        self._token = token
        (await self._connected()).login = self._login()
        return login

    # --- pipelines and probes ----------------------------------------------------------------------

    async def pipelines(self, *, call_timeout: float | None = None) -> m.Pipelines:
        """Return the configured pipelines."""
        return await self._quick("pipeline.list", m.Pipelines, call_timeout)

    async def probe_register(  # noqa: PLR0913 - the names are the wire's
        self,
        name: str,
        host: str | None = None,
        port: int | None = None,
        *,
        url: str | None = None,
        labels: Mapping[str, str] | None = None,
        lease: Literal["pinned", "connection"] | None = None,
        call_timeout: float | None = None,
    ) -> m.Probe:
        """Make a probe known by name: at ``host`` and ``port``, or at a ``url`` for which the daemon has an
        adapter, such as ``rtsp://user:password@camera/live``. ``lease="connection"`` forgets it with this
        connection.
        """
        params = given(name=name, host=host, port=port, url=url, labels=labels, lease=lease)
        return await self._quick("probe.register", m.Probe, call_timeout, **params)

    async def probe_list(
        self, *, limit: int | None = None, call_timeout: float | None = None
    ) -> m.Probes:
        """Return registered probes, as last seen: all, or at most ``limit``."""
        pages = Pages[m.Probe](limit)
        while pages.more:
            found = await self._quick("probe.list", m.Probes, call_timeout, **pages.params())
            pages.take(found.probes, found.next)
        return m.Probes(probes=pages.items)

    async def probe_get(self, name: str, *, call_timeout: float | None = None) -> m.Probe:
        """Return a probe, after the daemon has connected to it."""
        return await self._quick("probe.get", m.Probe, call_timeout, name=name)

    async def probe_remove(self, name: str, *, call_timeout: float | None = None) -> m.Probe:
        """Forget a probe that no session uses."""
        return await self._quick("probe.remove", m.Probe, call_timeout, name=name)

    # --- sessions ------------------------------------------------------------------------------------

    async def start(
        self,
        *,
        on_progress: OnProgress | None = None,
        call_timeout: float | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncRunningSession:
        """Start a session; return it once its stream is verified, or accepted with ``wait``.

        ``on_progress`` is called in this task while it is pending. An exception (a timeout, a cancellation,
        one from ``on_progress``) cancels the start. The session ends with this client's connection, unless a
        ``lease`` or a ``request_key`` is given.

        With a ``request_key`` it may be the session of an earlier start, perhaps by another program: the
        answer does not show which. Leaving a ``with`` block stops it for all who have it by that key.
        Programs that share a session should not use ``with``, but ``lease="connection"``: it ends with the
        last of their connections.
        """
        connection = await self._connected()
        return await connection.converse(
            "session.start", leased(options), call_timeout, self._started, on_progress
        )

    def _started(self, raw: bytes) -> AsyncRunningSession:
        return AsyncRunningSession(self, decode_result("session.start", raw, m.Session))

    async def start_progress(
        self, *, call_timeout: float | None = None, **options: Unpack[StartOptions]
    ) -> AsyncGenerator[Progress | AsyncRunningSession, None]:
        """Start a session as `start` does; yield its progress, and last the session.

        Closed early, the start is cancelled.
        """
        connection = await self._connected()
        call, line = await connection.prepare("session.start", leased(options))
        try:
            async for progress in connection.progress(call, line, call_timeout):
                yield progress
            session = self._started(call.result())
        except BaseException:
            connection.abandon(call)
            raise
        yield session

    async def attach(self, session_id: str) -> AsyncRunningSession:
        """Return a session that was started elsewhere."""
        return AsyncRunningSession(self, await self.get(session_id))

    async def plan(
        self, *, call_timeout: float | None = None, **options: Unpack[StartOptions]
    ) -> m.PlanResult:
        """Return what a start with these options would do now."""
        return await self._quick("session.plan", m.PlanResult, call_timeout, **options)

    async def get(self, session_id: str, *, call_timeout: float | None = None) -> m.Session:
        """Return a session, living or ended."""
        return await self._quick("session.get", m.Session, call_timeout, session_id=session_id)

    async def list(
        self,
        *,
        phase: m.Phase | None = None,
        owner: str | None = None,
        limit: int | None = None,
        call_timeout: float | None = None,
    ) -> m.Sessions:
        """Return sessions, the newest first: all, or at most ``limit``."""
        pages = Pages[m.Session](limit)
        while pages.more:
            params = {"phase": phase, "owner": owner, **pages.params()}
            found = await self._quick("session.list", m.Sessions, call_timeout, **params)
            pages.take(found.sessions, found.next)
        return m.Sessions(sessions=pages.items)

    async def stop(
        self, session_id: str, *, grace: float | None = None, call_timeout: float | None = None
    ) -> m.Session:
        """Stop a session; return it when all of it is gone. Stages get ``grace`` seconds to exit."""
        params = given(session_id=session_id, grace=grace)
        return await self._call("session.stop", m.Session, call_timeout, **params)

    async def wait(
        self,
        session_id: str,
        *,
        phase: m.Phase | None = None,
        timeout: float | None = None,
        call_timeout: float | None = None,
    ) -> m.Session:
        """Return a session when it reaches ``phase`` (``ended``).

        Raises `DeadlineExceeded` if it does not within ``timeout`` seconds.
        """
        params = given(session_id=session_id, phase=phase, timeout=timeout)
        return await self._call("session.wait", m.Session, call_timeout, **params)

    async def extend(
        self, session_id: str, ttl: float, *, call_timeout: float | None = None
    ) -> m.Session:
        """Extend the lease of a session to ``ttl`` seconds from now."""
        params = {"session_id": session_id, "ttl": ttl}
        return await self._quick("session.extend", m.Session, call_timeout, **params)

    @overload
    def logs(
        self,
        session_id: str,
        *,
        stage: str | None = ...,
        tail: int | None = ...,
        follow: Literal[False] = ...,
        call_timeout: float | None = ...,
    ) -> Coroutine[Any, Any, m.Logs]: ...

    @overload
    def logs(
        self,
        session_id: str,
        *,
        stage: str | None = ...,
        tail: int | None = ...,
        follow: Literal[True],
        call_timeout: float | None = ...,
    ) -> AsyncFeed[m.StageLine]: ...

    def logs(
        self,
        session_id: str,
        *,
        stage: str | None = None,
        tail: int | None = None,
        follow: bool = False,
        call_timeout: float | None = None,
    ) -> Coroutine[Any, Any, m.Logs] | AsyncFeed[m.StageLine]:
        """Return the last ``tail`` lines, or with ``follow`` an iterator over those and all later ones."""
        params = given(session_id=session_id, stage=stage, tail=tail)
        if not follow:
            return self._quick("session.logs", m.Logs, call_timeout, **params)
        self._require_open()
        return log_feed(self._open, params, self._limit(call_timeout))

    async def stats(self, session_id: str, *, call_timeout: float | None = None) -> m.Stats:
        """Return what each stage uses now."""
        return await self._quick("session.stats", m.Stats, call_timeout, session_id=session_id)

    # --- events and requests -----------------------------------------------------------------------

    def events(
        self,
        *,
        session_id: str | None = None,
        types: Sequence[str] | None = None,
        since: int | None = None,
        reconnect: bool = False,
        call_timeout: float | None = None,
    ) -> AsyncFeed[Event]:
        """Return an iterator over what happens from its `open` on, or from the event after ``since``.

        It raises `ConnectionLost` when the daemon goes away. With ``reconnect`` it waits until the daemon is
        back, and goes on with what happened meanwhile: no event comes twice, and events that are no longer
        available are replaced by a gap marker (`Event.lost`).
        """
        self._require_open()
        params = given(session_id=session_id, types=types, since=since)
        if reconnect:
            return lasting_event_feed(self._open, params, self._limit(call_timeout))
        return event_feed(self._open, params, self._limit(call_timeout))

    async def subscribe(
        self,
        *,
        session_id: str | None = None,
        types: Sequence[str] | None = None,
        since: int | None = None,
        call_timeout: float | None = None,
    ) -> m.Subscribed:
        """Subscribe this connection itself; its events are taken with `notice`. Mostly, use `events`."""
        params = given(session_id=session_id, types=types, since=since)
        return await self._quick("events.subscribe", m.Subscribed, call_timeout, **params)

    async def unsubscribe(
        self, subscription: int, *, call_timeout: float | None = None
    ) -> m.Unsubscribed:
        """End a subscription of this connection."""
        params = {"subscription": subscription}
        return await self._quick("events.unsubscribe", m.Unsubscribed, call_timeout, **params)

    async def notice(self, timeout: float | None = None) -> Notice | None:
        """Return the next notification to this connection, None if there is none in ``timeout`` s.

        Raises `ConnectionLost`.
        """
        connection = await self._connected()
        return await connection.notice(timeout)

    async def cancel(self, id: int | str, *, call_timeout: float | None = None) -> m.CancelResult:
        """Cancel a pending request of this connection; a start's id is in its `Progress`."""
        return await self._quick("request.cancel", m.CancelResult, call_timeout, id=id)

    def _limit(self, call_timeout: float | None) -> float | None:
        return self.timeout if call_timeout is None else call_timeout
