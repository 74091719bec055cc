# SPDX-License-Identifier: MIT
# session.py is made from this file: after a change, run make client.
"""A session that was started, and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from operatord_protocol import messages as m
from operatord_protocol.stream import CutOff, StreamError, Unbegun

from ._recording.tape import Tape
from ._transport.reception import Policy
from .async_feeds import AsyncFeed
from .async_frames import (
    AsyncFrameStream,
    RawStream,
    async_open_raw,
    async_record_located,
    open_located,
)
from .errors import (
    CallTimeout,
    ClientError,
    Conflict,
    DeadlineExceeded,
    LocationUnreachable,
    NotFound,
    WireError,
)
from .notices import Event
from .options import Recorded, RecordOptions, RecordPath

if TYPE_CHECKING:
    from .async_client import AsyncClient

SETTLE_SECONDS = 10.0
"""After a stream's end, the longest wait on leaving ``with`` for the session to end by itself."""
CUT_SECONDS = 3.0
"""After a stream was cut off, the longest wait for the session to end by itself, which tells why."""


class AsyncRunningSession:
    """A session of a daemon. As a context manager, leaving it stops the session or waits for its end. The
    session also ends with the client's connection, unless it was started with another lease. Leaving the
    block ends it for all who have it by its ``request_key``; a process that was forked in the block does not
    end it.
    """

    def __init__(self, client: AsyncClient, info: m.Session) -> None:
        self._client = client
        self._process = os.getpid()
        self._stream: AsyncFrameStream | None = None
        self._was_recorded = False
        """Whether a recording has had the stream to its end."""
        self.info = info
        """What was last heard of it, see `refresh`."""

    def __repr__(self) -> str:
        return f"<AsyncRunningSession {self.id} {self.info.phase}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._stream is not None:
            await self._stream.close()
        if (
            self._process != os.getpid()
        ):  # it was forked in the block, and the session is its parent's
            return
        if self.info.phase == "ended":
            return
        with suppress(NotFound, Conflict):  # it is gone already
            if not (self._played_out() and await self._settled()):
                await self.stop()

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return self.info.session_id

    @property
    def location(self) -> m.Location | None:
        """Where the stream is; None until it is verified, and once the session has ended."""
        location = self.info.location
        return location if isinstance(location, m.Location) else None

    async def refresh(self) -> m.Session:
        """Ask for the session's present state."""
        self.info = await self._client.get(self.id)
        return self.info

    # --- the stream ----------------------------------------------------------------------------

    def frames(
        self, *, timeout: float | None = None, policy: Policy | None = None
    ) -> AsyncFrameStream:
        """Return the frames at its location, once there is one; ``timeout`` is the longest silence (s).

        With ``policy="live"`` neither the session nor its other readers wait for this one, who misses frames
        instead; `latest` of what is returned passes over those that have come meanwhile.

        Raises `ValueError` for another policy. Connecting raises `StreamError` for a session that is
        ending or has ended, and `LocationUnreachable`. If the stream is cut off because the session has
        failed, the `StreamError` has the session's reason, and `info` its post-mortem.
        """
        limit, daemon = self._client.connect_timeout, self._client.address
        self._stream = open_located(
            self._located,
            connect_timeout=limit,
            timeout=timeout,
            daemon=daemon,
            policy=policy,
            why_refused=self._why_refused,
        )
        self._stream.why_cut = self._why_cut
        return self._stream

    async def open_raw(self) -> RawStream:
        """Return the bytes at its location, once there is one: for ``format="y4m"``. Raises as `frames`."""
        limit, daemon = self._client.connect_timeout, self._client.address
        location = await self._located()
        try:
            return await async_open_raw(location, connect_timeout=limit, daemon=daemon)
        except LocationUnreachable as exc:
            if (explained := await self._explained(exc)) is not None:
                raise explained from exc
            raise

    async def record(
        self,
        path: RecordPath,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Recorded], object] = lambda _: None,
        **options: Unpack[RecordOptions],
    ) -> Recorded:
        """Write its stream into a file of this machine; return what was written.

        ``y4m`` is for players, and pictures only: masks stay out; ``raw`` is the stream as it comes. Without
        a ``format``, the name of the file decides: ``.y4m``, or raw. What a session started with
        ``format="y4m"`` serves is y4m already. ``path`` may also be a binary file that is open.

        It goes on to the stream's end, or for so many ``frames`` or ``seconds``; ``timeout`` is the longest
        silence (s). However it ends, also by an exception or when the disk is full, the file has whole frames
        only. A raw one that was stopped before the stream's end gets an end of its own; one that was cut off
        has none. ``on_progress`` is called after each read, and at last. All who read from the session wait
        for a disk that is slower than the stream.

        Raises `FileExistsError` unless ``overwrite``, `ValueError`, `OSError`, and as `frames`.
        """
        tape = Tape(path, on_progress, **options)
        limit, daemon = self._client.connect_timeout, self._client.address
        try:
            recorded = await async_record_located(
                self._located_now, tape, connect_timeout=limit, timeout=timeout, daemon=daemon
            )
        except (CutOff, LocationUnreachable) as exc:
            if (explained := await self._explained(exc)) is not None:
                raise explained from exc
            raise
        if recorded.ended and self.location and self.location.format == "y4m":
            await self._require_success()
        self._was_recorded = recorded.ended
        return recorded

    async def _located_now(self) -> m.Location:
        """Return its location unless it has ended: then nothing comes from there any more."""
        location = await self._located()
        if self.info.phase == "ended":
            raise StreamError(
                f"session {self.id} has ended: nothing comes from its location any more"
            )
        return location

    async def _located(self) -> m.Location:
        if self.location is None:
            await self.wait(phase="running")
        if self.location is None:
            had_one = isinstance(self.info.started, str)
            how = "has ended" if had_one else "ended without a location"
            raise StreamError(f"session {self.id} {how}")
        return self.location

    # --- the rest --------------------------------------------------------------------------------

    async def stop(self, *, grace: float | None = None) -> m.Session:
        """Stop it; returns when all of it is gone."""
        self.info = await self._client.stop(self.id, grace=grace)
        return self.info

    async def wait(self, phase: m.Phase = "ended", *, timeout: float | None = None) -> m.Session:
        """Return when it reaches ``phase``. Raises `DeadlineExceeded` after ``timeout`` seconds."""
        self.info = await self._client.wait(self.id, phase=phase, timeout=timeout)
        return self.info

    async def extend(self, ttl: float) -> m.Session:
        """Extend its lease to ``ttl`` seconds from now."""
        self.info = await self._client.extend(self.id, ttl)
        return self.info

    @overload
    def logs(
        self, *, stage: str | None = ..., tail: int | None = ..., follow: Literal[False] = ...
    ) -> Coroutine[Any, Any, m.Logs]: ...

    @overload
    def logs(
        self, *, stage: str | None = ..., tail: int | None = ..., follow: Literal[True]
    ) -> AsyncFeed[m.StageLine]: ...

    def logs(
        self, *, stage: str | None = None, tail: int | None = None, follow: bool = False
    ) -> Coroutine[Any, Any, m.Logs] | AsyncFeed[m.StageLine]:
        """Return what its stages wrote, or with ``follow`` an iterator over that and all later lines."""
        if follow:
            return self._client.logs(self.id, stage=stage, tail=tail, follow=True)
        return self._client.logs(self.id, stage=stage, tail=tail)

    async def stats(self) -> m.Stats:
        """Return what each stage uses now."""
        return await self._client.stats(self.id)

    def events(
        self, *, types: Sequence[str] | None = None, since: int | None = None
    ) -> AsyncFeed[Event]:
        """Return an iterator over what happens to it."""
        return self._client.events(session_id=self.id, types=types, since=since)

    def _played_out(self) -> bool:
        return self._was_recorded or (self._stream is not None and self._stream.end is not None)

    async def _why_cut(self) -> str:
        """Return why it has ended, unless it goes on: a stage's exit is judged a moment after its stream is
        cut off, and stopping the session before that would hide it.
        """
        with suppress(ClientError, WireError):  # what is raised for the stream says enough
            self.info = await self._client.wait(self.id, call_timeout=CUT_SECONDS)
        reason = self.info.reason
        return reason if self.info.phase == "ended" and isinstance(reason, str) else ""

    async def _why_refused(self) -> str:
        """Return why nothing answers at its location, if that is because it is ending or has ended."""
        with suppress(ClientError, WireError):
            if (await self.refresh()).phase == "running":
                await self._why_cut()
        if self.info.phase not in ("stopping", "ended"):
            return ""
        how = "has ended" if self.info.phase == "ended" else "is stopping"
        reason = self.info.reason
        return f"session {self.id} {how}{f': {reason}' if isinstance(reason, str) else ''}"

    async def _explained(self, exc: CutOff | LocationUnreachable) -> StreamError | None:
        """Return what is to be raised instead, which has the session's reason; None if there is none."""
        if isinstance(exc, LocationUnreachable):
            refused = await self._why_refused()
            return StreamError(refused) if refused else None
        if not (reason := await self._why_cut()):
            return None
        return Unbegun(reason) if isinstance(exc, Unbegun) else CutOff(f"{exc}: {reason}")

    async def _require_success(self) -> None:
        """Raise `CutOff` if it has failed: a stream for players ends as one that is cut off does."""
        reason = await self._why_cut()
        if reason and self.info.outcome == "failed":
            raise CutOff(f"the stream was cut off: {reason}")

    async def _settled(self) -> bool:
        """Give the session time to end as completed, instead of stopping it."""
        try:
            info = await self.wait(timeout=SETTLE_SECONDS)
        except (DeadlineExceeded, CallTimeout):
            return False
        return info.phase == "ended"
